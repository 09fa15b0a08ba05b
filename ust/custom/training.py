"""Training a custom tagger: a head on pretrained embeddings, tuned and calibrated by cross-validation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score

from ust.annotations.labels import mask_unasked
from ust.annotations.rules.registry import read_rule
from ust.annotations.taxonomy import Taxonomy
from ust.custom.project import FEATURES, MODELS, PARAMS, SYSTEM, read_settings
from ust.datasets.collection import Collection
from ust.evaluation.evaluation import Evaluation
from ust.evaluation.predictions import read_predictions
from ust.features.extraction import Extraction
from ust.features.registry import read_feature, read_network, write_network
from ust.features.store import ORIGINAL, Features, Row, open_feature_files
from ust.models.checkpoints import load_system
from ust.models.examples import Examples, predict, select_examples
from ust.tagging.audioset import read_classes
from ust.tagging.locate import PRETRAINED
from ust.training.context import TrainingContext, TrainingData, check_inputs, describe_model
from ust.training.cross_validation import OUT_OF_FOLD
from ust.training.registry import read_system_config
from ust.training.train_head import HeadConfig, fit_head, predict_out_of_fold
from ust.training.trainer import Epoch
from ust.util.accelerate import accelerate
from ust.util.device import prepare_device
from ust.util.documents import read_json
from ust.util.errors import UserError, plural
from ust.util.folders import atomic_folder
from ust.util.names import MODEL_FILE
from ust.util.progress import Progress, describe_as, silent

UNLABELLED = "pool"  # split of the clips without labels in the feature file
MIN_CLIPS = 10  # labelled train clips
CURVE_SHARES = (0.125, 0.25, 0.5, 1.0)  # of the train clips
MIN_ERROR = 1e-3  # smallest distance of a score from 1, as its logarithm is taken


@dataclass(frozen=True)
class TrainingResult:
    """A trained tagger with its predictions and evaluations.

    Attributes
    ----------
    folder : Path
        Folder of the system; the weights of its features are beside it.
    taxonomy : Taxonomy
        The classes.
    model : dict
        Content of ``model.json``.
    labels : pandas.DataFrame
        Indexed by clip: ``split`` and the value of each label, in [0, 1] or NaN, see `aggregate_labels`.
    predicted : dict of str to pandas.DataFrame
        Probabilities by clip and label for each split: ``train`` (out-of-fold predictions) and, if they have
        clips, ``validate`` and ``pool`` (clips without labels).
    evaluations : dict of str to Evaluation
        For ``train`` and, if it has clips, ``validate``.
    curve : pandas.DataFrame
        See `learning_curve`.
    """

    folder: Path
    taxonomy: Taxonomy
    model: dict[str, Any]
    labels: pd.DataFrame
    predicted: dict[str, pd.DataFrame]
    evaluations: dict[str, Evaluation]
    curve: pd.DataFrame


class _NoReports:
    """Listener that reports nothing, as the training takes only seconds."""

    def on_epoch(self, node: str, epoch: Epoch) -> None:
        pass

    def on_resume(self, node: str, epochs: list[Epoch]) -> None:
        pass


def train(
    collection: Collection, fetch: Callable[..., Path], *, force: bool = False, progress: Progress = silent
) -> TrainingResult:
    """Extract missing features, train the tagger, and evaluate it on clips outside its training data.

    Writes ``features/`` and ``models/`` in the project folder.

    Parameters
    ----------
    collection : Collection
        The labelled clips.
    fetch : callable
        From the name or address of a weights file to its local path, as
        `ust.tagging.audioset.weights_fetcher` returns it.
    force : bool
        Replace ``models/`` even if it holds files that were not written by this function.
    progress : Progress
        Wraps iterables to report progress.

    Returns
    -------
    TrainingResult

    Raises
    ------
    UserError
        If too few clips are labelled, a parameter is wrong, or the weights are not available.

    Examples
    --------
    >>> collection = Collection(Path("my-city"))  # doctest: +SKIP
    >>> train(collection, weights_fetcher(Path("my-city"))).evaluations["train"]  # doctest: +SKIP
    """
    folder, taxonomy = collection.folder, collection.taxonomy
    report, compute = read_settings(folder)
    config = read_system_config(folder / PARAMS, SYSTEM)
    if getattr(config.model, "classes", ()) is None:  # a prior by the classes that tag the project so far
        classes = read_classes(folder / PARAMS)
        config = replace(config, model=config.model.model_copy(update={"classes": classes}))
    labels = aggregate_labels(collection, config.row.labels)
    sensors = collection.clips()["sensor_id"].astype(str).to_dict()
    groups = [sensors[clip] for clip in labels.index[labels["split"] == "train"]]
    count = len(np.unique(groups))
    if len(groups) < MIN_CLIPS or count < 2:
        raise UserError(
            f"{folder}: {plural(len(groups), 'labelled train clip')} of {plural(count, 'recording')}; "
            f"at least {MIN_CLIPS} clips of two recordings are needed, and about fifty for each class are "
            "useful"
        )
    config = config.with_training(folds=min(config.training.folds, count))
    with atomic_folder(folder / MODELS, by="ust train", force=force) as models:
        (feature,) = config.row.features
        row = read_feature(folder / PARAMS, feature)
        name = row.feature.network
        network = models / PRETRAINED / name
        write_network(network, name, read_network(folder / PARAMS, name), fetch)
        extraction = Extraction(
            row,
            audio=Path(),
            augmented=Path(),
            network=network,
            out=folder / FEATURES / f"{feature}.h5",
            threads=compute.threads,
            device=compute.device,
            rows=feature_rows(collection, labels),
        )
        extraction.run(progress=describe_as("embeddings", progress))
        device = prepare_device(device=compute.device, threads=compute.threads)
        with open_feature_files(
            folder / FEATURES, config.inputs, cache_gib=config.training.cache_gib
        ) as features:
            check_inputs(SYSTEM, config, features)
            data = _select_data(labels, features, taxonomy, sensors)
            metadata = describe_model(config, taxonomy, features)
            out = models / SYSTEM
            work = TrainingContext(
                SYSTEM, taxonomy, device, out, None, metadata, None, _NoReports(), progress
            )
            fit_head(config, data, work)
            predicted = _predict_splits(out, features, data, labels, taxonomy, device)
            model = read_json(out / MODEL_FILE, made_by="train")
            decay = model["metadata"].get("weight_decay", config.training.weight_decay[0])
            curve = learning_curve(config, data.train, decay, work, seeds=report.curve_seeds)
    evaluations = {
        split: _evaluate_split(table, labels, collection, taxonomy)
        for split, table in predicted.items()
        if split != UNLABELLED
    }
    return TrainingResult(folder / MODELS / SYSTEM, taxonomy, model, labels, predicted, evaluations, curve)


def aggregate_labels(collection: Collection, name: str) -> pd.DataFrame:
    """Aggregate the annotations of each clip into one label vector."""
    rule, settings = read_rule(collection.folder / PARAMS, name)
    if rule.needs_model_outputs:
        raise UserError(
            f"{collection.folder / PARAMS}: the rule of {name} needs model outputs; choose another rule"
        )
    annotations = collection.annotations()
    labels = rule.aggregate(annotations, collection.taxonomy, settings)
    return mask_unasked(labels, annotations, collection.taxonomy).set_index("audio_filename")


def feature_rows(collection: Collection, labels: pd.DataFrame) -> tuple[Row, ...]:
    """Return the rows of the feature file: all clips, those without labels in the split `UNLABELLED`."""
    clips = collection.clips()
    missing = [name for name in clips.index if not collection.clip_path(name).is_file()]
    if missing:
        raise UserError(
            f"{collection.clip_path(missing[0])}: no such file, but clips.csv lists it; import it again"
        )
    splits = labels["split"].to_dict()
    rows = (
        Row(name, ORIGINAL, splits.get(name, UNLABELLED), collection.clip_path(name)) for name in clips.index
    )
    return tuple(sorted(rows))


def _select_data(
    labels: pd.DataFrame, features: Mapping[str, Features], taxonomy: Taxonomy, sensors: Mapping[str, str]
) -> TrainingData:
    """Select the train and the validate clips; without validate clips, train takes their place."""
    columns = list(taxonomy.labels)
    train = select_examples("train", labels, columns, features, variants=False, sensors=sensors)
    if not (labels["split"] == "validate").any():
        return TrainingData(train, train)
    return TrainingData(train, select_examples("validate", labels, columns, features, variants=False))


def _predict_splits(
    out: Path,
    features: Mapping[str, Features],
    data: TrainingData,
    labels: pd.DataFrame,
    taxonomy: Taxonomy,
    device: torch.device,
) -> dict[str, pd.DataFrame]:
    """Return the predictions of each split: out-of-fold ones for train, the system's for the others."""
    (file,) = features.values()
    trained = sorted(labels.index[labels["split"] == "train"])
    predictions = {"train": read_predictions(out / OUT_OF_FOLD, trained, taxonomy)[0]}
    system = accelerate(load_system(out)).to(device)
    for split in ("validate", UNLABELLED):
        rows = np.flatnonzero(file.split == split)
        if len(rows):
            no_targets = np.zeros((len(rows), 0), np.float32)
            values = predict(system, Examples(features, rows, no_targets), batch_size=256, device=device)
            predictions[split] = pd.DataFrame(values, file.clip[rows], list(taxonomy.labels))
    return predictions


def _evaluate_split(
    predicted: pd.DataFrame, labels: pd.DataFrame, collection: Collection, taxonomy: Taxonomy
) -> Evaluation:
    """Build the evaluation of a split from its predictions and labels."""
    truth = labels.loc[predicted.index, list(taxonomy.labels)]
    truth = (truth > 0.5).astype(float).where(truth.notna())
    truth.insert(0, "sensor_id", collection.clips().loc[predicted.index, "sensor_id"])
    return Evaluation.from_tables(truth, predicted.round(6), taxonomy)


def learning_curve(
    config: HeadConfig, examples: Examples, decay: float, work: TrainingContext, *, seeds: int
) -> pd.DataFrame:
    """Score out-of-fold predictions of heads that are trained on a share of the recordings."""
    known, present = ~np.isnan(examples.targets), examples.targets > 0.5
    coarse = len(work.taxonomy.coarse)
    levels = [part for part in (slice(coarse), slice(coarse, None)) if present[:, part].any()]

    rows = []
    tasks = [(seed, share) for share in CURVE_SHARES for seed in range(seeds if share < 1 else min(seeds, 1))]
    for seed, share in work.progress(tasks, total=len(tasks), description="learning curve", unit="head"):
        clips = round(share * len(examples) * (config.training.folds - 1) / config.training.folds)
        predicted = predict_out_of_fold(config, examples, decay, work, share=share, seed=seed)
        areas = [
            average_precision_score(present[:, k][known[:, k]], predicted[:, k][known[:, k]]) for k in levels
        ]
        rows.append({"seed": seed, "clips": clips, "score": float(np.mean(areas)) if areas else 0.0})
    return pd.DataFrame(rows, columns=["seed", "clips", "score"])


def extrapolate_to_twice_the_clips(curve: pd.DataFrame) -> float | None:
    """Extrapolate a learning curve to twice the number of clips.

    The error, 1 minus the mean score over the seeds, is assumed to fall as a power of the number of clips
    (Hestness et al., Deep Learning Scaling is Predictable, Empirically, 2017): a line in logarithms.

    Examples
    --------
    >>> curve = pd.DataFrame({"seed": 0, "clips": [50, 100], "score": [0.2, 0.6]})
    >>> round(extrapolate_to_twice_the_clips(curve), 3)
    0.8
    """
    if curve.empty:
        return None
    scores = curve.groupby("clips")["score"].mean()
    x, y = np.log(scores.index.to_numpy().clip(min=1)), np.log((1 - scores).clip(lower=MIN_ERROR).to_numpy())
    slope = min(0.0, float(np.polyfit(x, y, 1)[0])) if len(x) > 1 else 0.0
    return 1 - float(np.exp(y[-1] + slope * np.log(2)))
