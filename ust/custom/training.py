"""Training somebody's own tagger, a head chosen and calibrated by folds, and how good it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ust.annotations.rules.config import read_rule
from ust.annotations.taxonomy import Taxonomy
from ust.custom.learning_curve import learning_curve
from ust.custom.project import FEATURES, MODELS, PARAMS, SYSTEM, read_settings
from ust.datasets.collection import Collection
from ust.evaluation.evaluation import Evaluation
from ust.evaluation.predictions import read_predictions
from ust.features.extraction import Extraction
from ust.features.registry import read_feature, write_weights
from ust.features.store import ORIGINAL, Features, Row, open_all
from ust.models.checkpoints import load_system
from ust.models.examples import Examples, predict, select
from ust.training.cross_validation import OUT_OF_FOLD
from ust.training.systems import read_system
from ust.training.train_head import fit_head
from ust.training.work import TrainingContext, TrainingData, check_inputs, describe_model
from ust.util.accelerate import accelerate
from ust.util.device import prepare
from ust.util.documents import read_json
from ust.util.errors import UserError
from ust.util.folders import atomic_folder
from ust.util.progress import Progress, silent

POOL = "pool"  # split of clips that nobody has labelled
FEWEST = 10  # labelled train clips


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes
    ----------
    folder : Path
        Of the system; its features' weights are beside it.
    taxonomy : Taxonomy
    model : dict
        What its ``model.json`` says.
    labels : pandas.DataFrame
        By clip: ``split`` and, from 0 to 1, each label.
    predicted : dict of str to pandas.DataFrame
        Probabilities by clip and label: ``train`` out of fold, ``validate`` and ``pool`` if there are such.
    evaluations : dict of str to Evaluation
        Of train and, if there is one, validate.
    curve : pandas.DataFrame
        See `ust.custom.learning_curve.learning_curve`.
    """

    folder: Path
    taxonomy: Taxonomy
    model: dict[str, Any]
    labels: pd.DataFrame
    predicted: dict[str, pd.DataFrame]
    evaluations: dict[str, Evaluation]
    curve: pd.DataFrame


class _Silent:
    """Listens to a training and says nothing: it takes seconds."""

    def on_epoch(self, node: str, epoch: Any) -> None:
        pass

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        pass


def train(
    collection: Collection, bring: Callable[..., Path], *, force: bool = False, progress: Progress = silent
) -> Trained:
    """Extract what is new, train, and judge by clips that were not learnt from.

    Writes ``features/`` and ``models/`` of the collection's folder.

    Parameters
    ----------
    collection : Collection
    bring : Bring
        Of the network's weights.
    force : bool
        Replace ``models/`` whatever is in it.
    progress : Progress

    Raises
    ------
    UserError
        If too little is labelled, a parameter is wrong, or the weights cannot be had.
    """
    folder, taxonomy = collection.folder, collection.taxonomy
    own, compute = read_settings(folder)
    system = read_system(folder / PARAMS, SYSTEM)
    labels = aggregate(collection, system.labels)
    sensors = collection.clips()["sensor_id"].astype(str).to_dict()
    groups = [sensors[clip] for clip in labels.index[labels["split"] == "train"]]
    count = len(np.unique(groups))
    if len(groups) < FEWEST or count < 2:
        raise UserError(
            f"{folder}: {len(groups)} labelled train clips of {count} recordings; it takes "
            f"{FEWEST} clips of two recordings at least, and some fifty a class to be of use"
        )
    system = system.model_copy(update={"folds": min(system.folds, count)})
    with atomic_folder(folder / MODELS, by="ust train", force=force) as models:
        (feature,) = system.features
        _, settings = read_feature(folder / PARAMS, feature)
        write_weights(models / "features" / feature, feature, settings, bring)
        extraction = Extraction(
            feature, settings.model_dump(), Path(), Path(), models / "features" / feature,
            folder / FEATURES / f"{feature}.h5", compute.threads, compute.device, rows_of(collection, labels),
        )  # fmt: skip
        extraction.run(progress=progress)
        device = prepare(device=compute.device, threads=compute.threads)
        with open_all(folder / FEATURES, system.inputs, cache_gib=system.cache_gib) as features:
            check_inputs(SYSTEM, system, features)
            data = _data(labels, features, taxonomy, sensors)
            metadata = describe_model(system, taxonomy, features)
            out = models / SYSTEM
            work = TrainingContext(SYSTEM, taxonomy, device, out, models, metadata, None, _Silent(), progress)
            fit_head(system, data, work)
            predicted = _predictions(out, features, data, labels, taxonomy, device)
            model = read_json(out / "model.json", made_by="train")
            decay = model["about"].get("weight_decay", system.weight_decay[0])
            curve = learning_curve(system, data.train, decay, work, seeds=own.curve_seeds)
    evaluations = {
        split: _evaluation(table, labels, collection, taxonomy)
        for split, table in predicted.items()
        if split != POOL
    }
    return Trained(folder / MODELS / SYSTEM, taxonomy, model, labels, predicted, evaluations, curve)


def aggregate(collection: Collection, name: str) -> pd.DataFrame:
    """The labels of all clips that have any, by a rule of the folder's params.yaml, by clip."""
    rule, settings = read_rule(collection.folder / PARAMS, name)
    if rule.listens:
        raise UserError(
            f"{collection.folder / PARAMS}: the rule of {name} needs embeddings; take another here"
        )
    labels = rule.aggregate(collection.annotations(), collection.taxonomy, settings)
    return labels.set_index("audio_filename")


def rows_of(collection: Collection, labels: pd.DataFrame) -> tuple[Row, ...]:
    """All clips, those without labels in the split `POOL`.

    Raises
    ------
    UserError
        If a clip's file is missing.
    """
    clips = collection.clips()
    missing = [name for name in clips.index if not collection.audio(name).is_file()]
    if missing:
        raise UserError(
            f"{collection.audio(missing[0])}: no such file, but clips.csv lists it; import it again"
        )
    splits = labels["split"].to_dict()
    rows = (Row(name, ORIGINAL, splits.get(name, POOL), collection.audio(name)) for name in clips.index)
    return tuple(sorted(rows))


def _data(
    labels: pd.DataFrame, features: Mapping[str, Features], taxonomy: Taxonomy, sensors: Mapping[str, str]
) -> TrainingData:
    columns = list(taxonomy.labels)
    train = select("train", labels, columns, features, variants=False, sensors=sensors)
    if not (labels["split"] == "validate").any():
        return TrainingData(train, train)
    return TrainingData(train, select("validate", labels, columns, features, variants=False))


def _predictions(
    out: Path,
    features: Mapping[str, Features],
    data: TrainingData,
    labels: pd.DataFrame,
    taxonomy: Taxonomy,
    device: torch.device,
) -> dict[str, pd.DataFrame]:
    (file,) = features.values()
    trained = sorted(labels.index[labels["split"] == "train"])
    found = {"train": read_predictions(out / OUT_OF_FOLD, trained, taxonomy)[0]}
    system = accelerate(load_system(out)).to(device)
    for split in ("validate", POOL):
        rows = np.flatnonzero(file.split == split)
        if len(rows):
            nothing = np.zeros((len(rows), 0), np.float32)
            values = predict(system, Examples(features, rows, nothing), batch_size=256, device=device)
            found[split] = pd.DataFrame(values, file.clip[rows], list(taxonomy.labels))
    return found


def _evaluation(
    predicted: pd.DataFrame, labels: pd.DataFrame, collection: Collection, taxonomy: Taxonomy
) -> Evaluation:
    truth = (labels.loc[predicted.index, list(taxonomy.labels)] > 0.5).astype(int)
    truth.insert(0, "sensor_id", collection.clips().loc[predicted.index, "sensor_id"])
    return Evaluation.of(truth, predicted.round(6), taxonomy)
