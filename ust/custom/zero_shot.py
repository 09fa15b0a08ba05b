"""Tags of a collection before anything is labelled, by the AudioSet classes of its labels."""

import numpy as np
import pandas as pd

from ust.custom.project import FEATURES as FEATURE_FILES
from ust.custom.project import PREDICTIONS, read_settings
from ust.custom.training import feature_rows
from ust.datasets.collection import Collection
from ust.evaluation.predictions import write_predictions
from ust.features.extraction import Extraction
from ust.features.registry import FEATURES, FeatureRow
from ust.features.store import open_feature_files
from ust.models.examples import Examples, predict
from ust.tagging.audioset import FEATURE, NETWORK
from ust.tagging.locate import locate
from ust.tagging.tagger import Tagger
from ust.util.device import prepare_device
from ust.util.progress import Progress, describe_as, silent


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

    Examples
    --------
    >>> tag_collection(Collection(Path("my-city")))  # doctest: +SKIP
    """
    folder = collection.folder
    _, compute = read_settings(folder)
    device = prepare_device(device=compute.device, threads=compute.threads)
    tagger = Tagger.load(folder, device=device)
    extraction = Extraction(
        FeatureRow(FEATURE, FEATURE, FEATURES[FEATURE].settings()),
        audio=folder,
        augmented=folder,
        network=locate(folder).networks / NETWORK,
        out=folder / FEATURE_FILES / f"{FEATURE}.h5",
        threads=compute.threads,
        device=compute.device,
        rows=feature_rows(collection, pd.DataFrame({"split": []})),
    )
    extraction.run(progress=describe_as("embeddings", progress))
    with open_feature_files(folder / FEATURE_FILES, {"embedding": FEATURE}, cache_gib=0.0) as features:
        names = features["embedding"].clip
        examples = Examples(features, np.arange(len(names)), np.zeros((len(names), 0), np.float32))
        values = predict(tagger.system, examples, batch_size=256, device=device)
    write_predictions(folder / PREDICTIONS, list(names), values, collection.taxonomy)
