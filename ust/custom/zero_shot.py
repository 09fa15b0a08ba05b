"""Tags of a collection before anything is labelled, by the AudioSet classes of its labels."""

import numpy as np
import pandas as pd

from ust.custom.project import FEATURES, PREDICTIONS, read_settings
from ust.custom.training import feature_rows
from ust.datasets.collection import Collection
from ust.evaluation.predictions import write_predictions
from ust.features.extraction import Extraction
from ust.features.store import open_feature_files
from ust.models.examples import Examples, predict
from ust.tagging.audioset import DEFAULTS, FEATURE
from ust.tagging.locate import locate
from ust.tagging.tagger import Tagger
from ust.util.device import prepare_device
from ust.util.progress import Progress, silent


def tag_collection(collection: Collection, *, progress: Progress = silent) -> None:
    """Write the predictions and features of all clips of a project that has not been trained.

    The files are those that training writes, too: ``predictions.csv`` and a file in ``features``. Features of
    clips that have them are not computed again.

    Parameters
    ----------
    collection : Collection
        The clips.
    progress : Progress
        Wraps iterables to report progress.

    Raises
    ------
    UserError
        If a parameter is wrong, no label has AudioSet classes, or the weights are not available.
    """
    folder = collection.folder
    _, compute = read_settings(folder)
    device = prepare_device(device=compute.device, threads=compute.threads)
    weights = locate(folder).features
    tagger = Tagger.load(folder, device=device)
    (front_end,) = tagger.front_ends.values()
    settings = DEFAULTS.model_dump() | front_end.config.model_dump()
    rows = feature_rows(collection, pd.DataFrame({"split": []}))
    Extraction(
        FEATURE, settings, folder, folder, weights / FEATURE, folder / FEATURES / f"{FEATURE}.h5",
        compute.threads, compute.device, rows,
    ).run(progress=progress)  # fmt: skip
    with open_feature_files(folder / FEATURES, {"embedding": FEATURE}, cache_gib=0.0) as features:
        names = features["embedding"].clip
        examples = Examples(features, np.arange(len(names)), np.zeros((len(names), 0), np.float32))
        values = predict(tagger.system, examples, batch_size=256, device=device)
    write_predictions(folder / PREDICTIONS, list(names), values, collection.taxonomy)
