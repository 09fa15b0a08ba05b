"""Training heads on embeddings: the weight decay is chosen by folds of the train clips, never by validate."""

import logging
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from ust.compute.device import seed_torch
from ust.features.rows import ORIGINAL
from ust.files.errors import UserError
from ust.files.seeding import generator
from ust.files.settings import Count, Positive, Section, Seed, Weight
from ust.models.checkpoints import Saved, build, note, parameter_count, save
from ust.models.examples import Examples, predict
from ust.models.outputs import complete, output_labels
from ust.models.systems import Answers
from ust.scores.calibration import best_thresholds, fit_calibration
from ust.scores.predictions import write_predictions
from ust.training.flat import flat_score
from ust.training.heads.data import folds, mixed, own_targets, sensors_of
from ust.training.rows import OneNetwork
from ust.training.stagnation import Epoch
from ust.training.work import Data, Work

log = logging.getLogger("ust")
OUT_OF_FOLD = "out_of_fold.csv"


class Heads(Section):
    """The recipe's section of params.yaml."""

    seed: Seed
    lr: Positive
    batch_size: Count
    max_epochs: Count
    weight_decay: Annotated[list[Weight], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]
    calibrate: bool
    mixup: Weight
    cache_gib: Weight


class OneHead(OneNetwork):
    """A row of ``systems`` of this recipe."""

    architecture: Literal["head", "attention"]


def fit_head(system: Any, data: Data, work: Work) -> None:
    """Train a head and write it, and its out-of-fold predictions of the train clips.

    Each weight decay is tried on folds of the train clips, which keep sensors apart (a clip's name begins
    with its sensor, as in SONYC-UST: ``SENSOR_NUMBER.wav``); the one whose out-of-fold predictions score
    best, coarse and fine together, is used on all of them. Those predictions also say how the head's
    probabilities are calibrated, and each label's threshold. The network of the last epoch is kept: validate
    chooses nothing, and is only scored for the learning curve.

    Raises
    ------
    UserError
        If the train clips are of fewer sensors than there are to be folds, or the loss is no longer finite.
    """
    labels, train = own_targets(system, data.train, work.taxonomy)
    about = work.about | {"epoch": system.max_epochs, "outputs": system.outputs}
    decay = system.weight_decay[0]
    if len(system.weight_decay) > 1 or system.calibrate:
        decay, held = choose_decay(system, data.train, work)
        about |= out_of_fold_facts(held, data.train, labels, system, work)
    score = flat_score(labels, data.validate.targets, work.taxonomy)

    def on_epoch(number: int, loss: float, network: torch.nn.Module) -> None:
        epoch = Epoch(number, loss, score(_answers(network, data.validate, work)), system.lr, 0, ())
        work.listener.on_epoch("", epoch)

    network = _train(train, system, decay, work, work.name, on_epoch)
    about |= {"weight_decay": decay, "parameters": parameter_count(network)}
    save(work.out, Saved(network, system.architecture, system.config, labels, about, train.shapes))
    note(work.out, epochs=system.max_epochs, converged=True)


def choose_decay(system: Any, examples: Examples, work: Work) -> tuple[float, np.ndarray]:
    """The weight decay whose out-of-fold predictions score best, and those predictions.

    Parameters
    ----------
    system : System
    examples : Examples
        With targets of all labels.
    work : Work

    Returns
    -------
    decay : float
    held : numpy.ndarray [shape=(n, outputs)]
    """
    labels = output_labels(system.outputs, work.taxonomy)
    of = flat_score(labels, examples.targets > 0.5, work.taxonomy)
    tried = []
    for decay in work.progress(system.weight_decay, total=len(system.weight_decay), description="folds"):
        held = out_of_fold(system, examples, decay, work)
        found = of(held)
        tried.append((float(np.mean(list(found.values()))), decay, held))
        text = "  ".join(f"{level} {value:.4f}" for level, value in found.items())
        log.info("%s weight decay %g, out of fold  %s", work.name, decay, text)
    _, decay, held = max(tried, key=lambda each: each[0])
    return decay, held


def out_of_fold(
    system: Any, examples: Examples, decay: float, work: Work, *, share: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Predictions of each fold by a head that learnt from the others.

    Parameters
    ----------
    system : System
    examples : Examples
        With targets of all labels.
    decay : float
    work : Work
    share : float
        Of the other folds' sensors that it learns from.
    seed : int
        Of which they are.

    Returns
    -------
    numpy.ndarray [shape=(n, outputs)]
    """
    labels, examples = own_targets(system, examples, work.taxonomy)
    sensors = sensors_of(_clips(examples))
    held = np.zeros((len(examples), len(labels)), np.float32)
    for number, (rest, fold) in enumerate(folds(sensors, system.folds, system.seed)):
        if share < 1:
            names = np.unique(sensors[rest])
            kept = generator(seed, "share", str(number)).permutation(names)[
                : max(1, round(share * len(names)))
            ]
            rest = rest[np.isin(sensors[rest], kept)]
        network = _train(_part(examples, rest), system, decay, work, f"{work.name} fold {number}")
        held[fold] = _answers(network, _part(examples, fold), work)
    return held


def out_of_fold_facts(
    held: np.ndarray, examples: Examples, labels: list[str], system: Any, work: Work
) -> dict[str, Any]:
    """What out-of-fold predictions say of the head that learns from all: its calibration and thresholds.

    The predictions of the clips as they were recorded are written to ``out_of_fold.csv``, in the layout of a
    submission, each fold calibrated by the others.
    """
    columns = [work.taxonomy.labels.index(label) for label in labels]
    keys = next(iter(examples.features.values()))
    original = keys.variant[examples.rows] == ORIGINAL
    clips = keys.clip[examples.rows][original]
    held, targets = held[original], examples.targets[original]
    facts: dict[str, Any] = {}
    if system.calibrate:
        facts["calibration"] = fit_calibration(held, targets[:, columns]).as_lists()
        before, held = held, held.copy()
        for rest, fold in folds(sensors_of(clips), system.folds, system.seed):
            held[fold] = fit_calibration(before[rest], targets[rest][:, columns])(before[fold])
    everything = complete(torch.from_numpy(held), labels, work.taxonomy).numpy()
    write_predictions(work.out / OUT_OF_FOLD, list(clips), everything, work.taxonomy)
    facts["thresholds"] = best_thresholds(targets, everything, list(work.taxonomy.labels))
    return facts


def _clips(examples: Examples) -> np.ndarray:
    return next(iter(examples.features.values())).clip[examples.rows]


def _part(examples: Examples, which: np.ndarray) -> Examples:
    return examples.having(which, examples.targets[which])


def _answers(network: torch.nn.Module, examples: Examples, work: Work) -> np.ndarray:
    """Probabilities of the network's labels [shape=(n, outputs)]."""
    return predict(Answers(network.eval(), []), examples, batch_size=256, device=work.device)


def _train(
    examples: Examples,
    system: Any,
    weight_decay: float,
    work: Work,
    name: str,
    on_epoch: Any = lambda *_: None,
) -> torch.nn.Module:
    """A head trained from the start on examples that fit in memory."""
    seed_torch(system.seed, "initialise", name)
    network = build(system.architecture, system.config, examples.targets.shape[1], examples.shapes)
    network = network.to(work.device)
    ((batch, targets),) = examples.batches(len(examples), device=work.device)
    ((_, values),) = batch.items()
    steps = {key: getattr(system, key) for key in ("lr", "batch_size", "max_epochs", "mixup", "seed")}
    descend(network, values, targets, name=name, weight_decay=weight_decay, on_epoch=on_epoch, **steps)
    return network


def descend(
    head: torch.nn.Module,
    values: torch.Tensor,
    targets: torch.Tensor,
    *,
    name: str,
    seed: int,
    lr: float,
    weight_decay: float,
    batch_size: int,
    max_epochs: int,
    mixup: float = 0.0,
    on_epoch: Any = lambda *_: None,
) -> None:
    """Train a head in place, by AdamW at a rate that falls as a cosine, with mixup.

    Parameters
    ----------
    head : torch.nn.Module
        Takes embeddings; its `standardised` is fitted first.
    values : torch.Tensor [shape=(n, …)]
        Embeddings.
    targets : torch.Tensor [shape=(n, outputs)]
    name : str
        Of the head among those of a system.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    head.standardised.fit(values)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
    steps = max_epochs * -(-len(values) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shuffle = generator(seed, "shuffle", name)
    seed_torch(seed, "dropout", name)
    for number in range(1, max_epochs + 1):
        head.train()
        total = 0.0
        order = torch.from_numpy(shuffle.permutation(len(values))).to(values.device)
        for chosen in order.split(batch_size):
            x, y = mixed(values[chosen].float(), targets[chosen], mixup, shuffle)
            loss = functional.binary_cross_entropy_with_logits(head(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if not np.isfinite(total):
            raise UserError(f"{name}: the loss is no longer finite in epoch {number}; a smaller lr may help")
        on_epoch(number, total / len(values), head)
