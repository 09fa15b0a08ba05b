"""Training a system of any kind: what labels and clips it learns from, which of its checkpoints are kept."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from ust.checkpoints import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    load_checkpoint,
    parameter_count,
    read_description,
    save,
    save_checkpoint,
)
from ust.console import log
from ust.device import seed_torch
from ust.errors import UserError
from ust.examples import Examples, select
from ust.features import Features
from ust.files import write_json
from ust.hierarchy import ROOT
from ust.inference import output_labels
from ust.models import CNNVGGish, NetworkConfig
from ust.params import (
    CNN,
    BaselineSystem,
    FlatSystem,
    Hierarchical,
    HierarchicalCodeSystem,
    HierarchicalSystem,
)
from ust.taxonomy import Taxonomy
from ust.training import baseline, hierarchical, plateau, stagnation
from ust.training.flat import flat_score
from ust.training.plateau import exhausted, train_on_plateau
from ust.training.stagnation import stagnant, train_on_stagnation
from ust.training.state import TrainingState

System = FlatSystem | HierarchicalSystem | HierarchicalCodeSystem | BaselineSystem


class Listener(Protocol):
    """Who is told how a training goes."""

    def on_epoch(self, node: str, epoch: Any) -> None:
        """An epoch of a network is over; `node` is "" where a system has only one."""

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        """A training goes on after these epochs."""


@dataclass(frozen=True)
class Data:
    """What a system learns from and is chosen by.

    Attributes
    ----------
    train, validate : Examples
        With targets of all labels, coarse first.
    """

    train: Examples
    validate: Examples


@dataclass(frozen=True)
class Work:
    """Where and on what a system is trained.

    Attributes
    ----------
    taxonomy : Taxonomy
    device : torch.device
    out : Path
        Folder for the models.
    states : Path
        Folder for what a training cut short goes on from.
    about : dict
        What is written into each model: what its features rest on.
    root : Path or None
        Checkpoint of a flat network that is the root of a hierarchy.
    listener : Listener
    """

    taxonomy: Taxonomy
    device: torch.device
    out: Path
    states: Path
    about: dict[str, Any]
    root: Path | None
    listener: Listener

    def state(self, name: str, node: str, epoch: Callable[..., Any]) -> TrainingState:
        """What a network's training goes on from, the listener told; `epoch` is the class of its epochs."""
        state = TrainingState.read(self.states / f"{name}.safetensors")
        if state.epochs:
            self.listener.on_resume(node, [epoch(**values) for values in state.epochs])
        return state


def training_data(
    system: System,
    labels: pd.DataFrame,
    any_labels: pd.DataFrame,
    logmel: Features,
    vggish: Features,
    taxonomy: Taxonomy,
) -> Data:
    """What a system learns from: the baseline anyone's word, no variants; others the report's labels and all.

    Parameters
    ----------
    system : System
    labels, any_labels : pandas.DataFrame
        By the report's rule and by the challenge baseline's, as `ust.labels.read_labels` gives them.
    logmel, vggish : Features
        Of the same rows.
    taxonomy : Taxonomy
    """
    is_baseline = isinstance(system, BaselineSystem)
    learnt, columns = any_labels if is_baseline else labels, list(taxonomy.labels)
    return Data(
        select("train", learnt, columns, logmel, vggish, variants=not is_baseline),
        select("validate", learnt, columns, logmel, vggish, variants=False),
    )


def fit(name: str, system: System, data: Data, work: Work) -> None:
    """Train a system and write its models.

    Parameters
    ----------
    name : str
        Of the system.
    system : System
    data : Data
    work : Work

    Raises
    ------
    UserError
        If the loss is no longer finite, there is too little to learn from, or a hierarchy has no root.
    """
    FITTERS[type(system)](name, system, data, work)


def fit_flat(name: str, system: FlatSystem, data: Data, work: Work) -> None:
    """One network; of each level the checkpoint with the best score on validate."""
    labels = output_labels(system.outputs, work.taxonomy)
    columns = [work.taxonomy.labels.index(label) for label in labels]
    network = build(system, len(labels), name, work.device)
    about = work.about | {"outputs": system.outputs, "parameters": parameter_count(network)}

    def on_epoch(epoch: Any) -> None:
        for level in epoch.best:
            score = {"epoch": epoch.number, f"{level}_micro_auprc": epoch.scores[level]}
            save_checkpoint(work.out / level, Checkpoint(network, labels, score | about))
        work.listener.on_epoch("", epoch)

    epochs = train_on_stagnation(
        network,
        data.train.having(slice(None), data.train.targets[:, columns]),
        data.validate,
        system,
        flat_score(labels, data.validate.targets, work.taxonomy),
        device=work.device,
        name=name,
        on_epoch=on_epoch,
        state=work.state(name, "", stagnation.Epoch),
    )
    for level in epochs[0].scores:
        note(work.out / level, epochs=len(epochs), converged=stagnant(epochs, level, system.patience))


def fit_hierarchy(name: str, system: Hierarchical, data: Data, work: Work) -> None:
    """A network for every group with several fine labels, and the root: one more, or a copy of a flat one."""
    trained, parameters, converged = [], 0, []
    if system.root == "flat":
        root = adopt_root(work)
        trained.append(ROOT)
        parameters += parameter_count(root.network)
        converged.append(root.about.get("converged", False))
    for node in hierarchical.nodes(
        data.train, data.validate, work.taxonomy, negatives=system.negatives, root=system.root == "own"
    ):
        network = build(system, len(node.labels), node.name, work.device)
        converged.append(fit_node(network, node, system, work))
        trained.append(node.name)
        parameters += parameter_count(network)
    for label in hierarchical.untrained(trained, work.taxonomy):
        log.warning("warning: too few clips of %s to train on: its fine labels are the root's, or 0", label)
    about = work.about | {"outputs": "all", "parameters": parameters, "converged": all(converged)}
    write_json(work.out / DESCRIPTION_FILE, {"kind": "hierarchy", "nodes": trained, "about": about})


def fit_node(network: CNNVGGish, node: hierarchical.Node, system: Hierarchical, work: Work) -> bool:
    """A network of a hierarchy, its checkpoint with the best score or lowest loss; whether it converged."""

    def on_epoch(epoch: Any) -> None:
        if epoch.best:
            score = {"epoch": epoch.number} | {
                key: value
                for key, value in epoch.figures().items()
                if key in ("coarse", "fine", "validation_loss")
            }
            save_checkpoint(work.out / node.name, Checkpoint(network, node.labels, score | work.about))
        work.listener.on_epoch(node.name, epoch)

    on_code = isinstance(system, HierarchicalCodeSystem)
    state = work.state(node.name, node.name, plateau.Epoch if on_code else stagnation.Epoch)
    common = {"device": work.device, "name": node.name, "on_epoch": on_epoch, "state": state}
    if on_code:
        epochs = train_on_plateau(network, node.train, node.watched, system, **common)
        converged = exhausted(epochs, system.stop_patience)
    else:
        score = hierarchical.node_score(node, work.taxonomy)
        epochs = train_on_stagnation(network, node.train, node.watched, system, score, **common)
        (level,) = epochs[0].scores
        converged = stagnant(epochs, level, system.patience)
    note(work.out / node.name, epochs=len(epochs), converged=converged)
    return converged


def fit_baseline(name: str, system: BaselineSystem, data: Data, work: Work) -> None:
    """A classifier of frames; its checkpoint with the lowest validation loss."""
    labels = baseline.outputs(system, work.taxonomy)
    shape = {
        "outputs": len(labels),
        "hidden_layers": system.hidden_layers,
        "hidden_size": system.hidden_size,
    }

    def on_epoch(epoch: baseline.Epoch, network: torch.nn.Module) -> None:
        if epoch.best:
            of = {"outputs": system.outputs, "parameters": parameter_count(network)}
            score = {"epoch": epoch.number, "validation_loss": epoch.validation_loss}
            description = {"kind": "baseline", "network": shape, "labels": labels}
            save(work.out, network, description | {"about": score | work.about | of})
        work.listener.on_epoch("", epoch)

    epochs = baseline.train_baseline(
        data.train, data.validate, work.taxonomy, system, device=work.device, name=name, on_epoch=on_epoch
    )
    note(work.out, epochs=len(epochs), converged=exhausted(epochs, system.stop_patience))


FITTERS: dict[type, Callable[[str, Any, Data, Work], None]] = {
    FlatSystem: fit_flat,
    HierarchicalSystem: fit_hierarchy,
    HierarchicalCodeSystem: fit_hierarchy,
    BaselineSystem: fit_baseline,
}


def build(system: CNN, outputs: int, name: str, device: torch.device) -> CNNVGGish:
    """A network of the system's architecture with first weights of its own."""
    seed_torch(system.seed, "initialise", name)
    config = NetworkConfig(
        outputs, system.fusion, system.conv_dropout, system.head_dropout, vggish_scale=system.scale
    )
    return CNNVGGish(config).to(device)


def note(folder: Path, **facts: int | bool) -> None:
    """Add to what a checkpoint says of itself."""
    description = read_description(folder)
    description["about"] |= facts
    write_json(folder / DESCRIPTION_FILE, description)


def adopt_root(work: Work) -> Checkpoint:
    """Copy the flat network that is the root into the hierarchy's folder.

    Raises
    ------
    UserError
        If there is none, or it takes other features or labels.
    """
    check_root(work.root)
    root = load_checkpoint(work.root)
    about = json.loads(json.dumps(work.about))
    for key in ("taxonomy", "logmel", "vggish"):
        if root.about.get(key, about.get(key)) != about.get(key):
            raise UserError(
                f"{work.root}: was trained with another {key}; train it again, on the same features"
            )
    (work.out / ROOT).mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS_FILE, DESCRIPTION_FILE):
        shutil.copyfile(work.root / file, work.out / ROOT / file)
    return root


def check_root(root: Path | None) -> None:
    """Check that there is a checkpoint for the root of a hierarchy that wants a flat one.

    Raises
    ------
    UserError
        If none is named.
    """
    if root is None:
        raise UserError(
            "the root of this hierarchy is a flat network: name its checkpoint with --root, such as "
            "models/cnn_vggish/coarse, or set root to own"
        )
