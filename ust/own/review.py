"""What is known of the clips that could be reviewed."""

import numpy as np

from ust.collection.collection import ANNOTATIONS, Collection
from ust.features.store import open_features
from ust.own.project import FEATURES, PREDICTIONS
from ust.own.selection import Known
from ust.scores.predictions import read_predictions


def known_of(collection: Collection) -> tuple[list[str], Known, dict[str, dict[str, float]]]:
    """The clips, what is known of them, and by clip and label what the tagger thinks.

    Without a training nothing is thought, and all embeddings are alike; clips that came since are thought of
    as the mean of the others.
    """
    folder, labels = collection.folder, list(collection.taxonomy.labels)
    names = list(collection.clips().index)
    said = np.zeros((len(names), len(labels)))
    labelled = np.zeros(len(names), bool)
    place = {name: index for index, name in enumerate(names)}
    if (folder / ANNOTATIONS).exists():
        table = collection.annotations()
        for name, share in (
            (table.set_index("audio_filename")[labels] == 1).groupby(level=0).mean().iterrows()
        ):
            if name in place:
                labelled[place[name]] = True
                said[place[name]] = share
    predicted = np.full((len(names), len(labels)), 0.5)
    embeddings = np.zeros((len(names), 1))
    thought: dict[str, dict[str, float]] = {}
    files = sorted((folder / FEATURES).glob("*.h5"))
    if (folder / PREDICTIONS).exists() and files:
        with open_features(files[0], files[0].stem) as file:
            of_clip = dict(zip(file.clip, file[np.arange(len(file.clip))], strict=True))
        there = [name for name in names if name in of_clip]
        table, _ = read_predictions(folder / PREDICTIONS, there, collection.taxonomy)
        mean_of = {name: table.loc[name].to_numpy() for name in there}
        values, vectors = table.to_numpy().mean(axis=0), np.mean([of_clip[name] for name in there], axis=0)
        predicted = np.stack([mean_of.get(name, values) for name in names])
        embeddings = np.stack([of_clip.get(name, vectors) for name in names])
        thought = {name: dict(zip(labels, map(float, mean_of[name].round(4)), strict=True)) for name in there}
    return names, Known(predicted, embeddings, said, labelled), thought
