"""Label counts and inter-annotator agreement."""

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.taxonomy import Taxonomy

ANY_ANNOTATOR, AGGREGATED = "any annotator", "after aggregation"


def count_labels(annotations: pd.DataFrame, labels: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Count the clips with each label in each split, before and after aggregation.

    The column ``counted`` is `ANY_ANNOTATOR` (at least one annotator, or the ground truth, has the label) or
    `AGGREGATED`.
    """
    names = list(taxonomy.labels)
    positive = (annotations[names] == 1).groupby(annotations["audio_filename"]).any()
    tables = [
        table.groupby(labels["split"])
        .sum()
        .rename_axis(columns="label")
        .stack()
        .rename("clips")
        .reset_index()
        .assign(counted=counted)
        for counted, table in (
            (ANY_ANNOTATOR, positive.loc[labels.index]),
            (AGGREGATED, labels[names] > 0.5),
        )
    ]
    return pd.concat(tables)[["split", "label", "counted", "clips"]]


def measure_agreement(annotations: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Compute the agreement of volunteers on each label, over the clips that two or more of them annotated.

    ``marked`` is the fraction of positive annotations; ``agreement`` and ``kappa`` are those of
    `fleiss_kappa`. All are NaN if no clip has two annotations.
    """
    volunteers = annotations[annotations["annotator_id"] > GROUND_TRUTH]
    clip = volunteers["audio_filename"]
    rows = []
    for label in taxonomy.labels:
        yes = (volunteers[label] == 1).groupby(clip).sum().to_numpy()
        no = (volunteers[label] == 0).groupby(clip).sum().to_numpy()
        counts = np.stack([no, yes], axis=1)[yes + no > 1]
        marked = counts[:, 1].sum() / counts.sum() if len(counts) else np.nan
        rows.append((label, len(counts), marked, *fleiss_kappa(counts)))
    return pd.DataFrame(rows, columns=["label", "clips", "marked", "agreement", "kappa"])


def fleiss_kappa(counts: np.ndarray) -> tuple[float, float]:
    """Compute observed agreement and Fleiss' kappa, for any number of ratings per subject.

    Parameters
    ----------
    counts : numpy.ndarray [shape=(subjects, categories)]
        Number of ratings in each category; at least two ratings per subject.

    Returns
    -------
    agreement : float
        Fraction of agreeing pairs of ratings, mean over subjects.
    kappa : float
        Agreement corrected for chance: 1 is perfect, 0 is chance. NaN if all ratings are equal.

    References
    ----------
    Fleiss, Measuring nominal scale agreement among many raters, Psychological Bulletin 76 (1971).

    Examples
    --------
    >>> fleiss_kappa(np.array([[3, 0], [0, 3]]))
    (1.0, 1.0)
    """
    if not len(counts):
        return np.nan, np.nan
    ratings = counts.sum(axis=1)
    pairs = (counts * (counts - 1)).sum(axis=1) / (ratings * (ratings - 1))
    chance = np.square(counts.sum(axis=0) / ratings.sum()).sum()
    observed = pairs.mean()
    return float(observed), float((observed - chance) / (1 - chance)) if chance < 1 else np.nan
