"""How often a label was said to be heard, and how far the volunteers agree on it."""

import numpy as np
import pandas as pd

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.taxonomy import Taxonomy

ANYONE, AGGREGATED = "said by anyone", "after aggregation"


def label_counts(annotations: pd.DataFrame, labels: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """Clips with each label in each split, before and after aggregation.

    Parameters
    ----------
    annotations : pandas.DataFrame
        As `ust.annotations.annotations.read_annotations` gives it.
    labels : pandas.DataFrame
        As `ust.annotations.labels.read_labels` gives it; a soft label counts when above one half.
    taxonomy : Taxonomy

    Returns
    -------
    pandas.DataFrame
        ``split, label, counted, clips``; `ANYONE` counts the clips in which at least one annotator, or the
        ground truth, has the label.
    """
    names = list(taxonomy.labels)
    said = (annotations[names] == 1).groupby(annotations["audio_filename"]).any()
    split = labels["split"]
    tables = [
        (said.loc[labels.index] if counted == ANYONE else labels[names] > 0.5)
        .groupby(split)
        .sum()
        .rename_axis(columns="label")
        .stack()
        .rename("clips")
        .reset_index()
        .assign(counted=counted)
        for counted in (ANYONE, AGGREGATED)
    ]
    return pd.concat(tables)[["split", "label", "counted", "clips"]]


def label_agreement(annotations: pd.DataFrame, taxonomy: Taxonomy) -> pd.DataFrame:
    """How far volunteers agree on each label: over all clips for which two or more were asked.

    Parameters
    ----------
    annotations : pandas.DataFrame
        As `ust.annotations.annotations.read_annotations` gives it.
    taxonomy : Taxonomy

    Returns
    -------
    pandas.DataFrame
        ``label, clips, heard, agreement, kappa``: how many clips, the share of "heard" among the answers, the
        share of agreeing pairs of volunteers (mean over clips), and `fleiss_kappa`. NaN where no clip was
        answered twice, kappa also where all gave one answer.
    """
    volunteers = annotations[annotations["annotator_id"] > GROUND_TRUTH]
    clip = volunteers["audio_filename"]
    rows = []
    for label in taxonomy.labels:
        yes = (volunteers[label] == 1).groupby(clip).sum().to_numpy()
        no = (volunteers[label] == 0).groupby(clip).sum().to_numpy()
        several = yes + no > 1
        counts = np.stack([no, yes], axis=1)[several]
        heard = counts[:, 1].sum() / counts.sum() if len(counts) else np.nan
        rows.append((label, len(counts), heard, *fleiss_kappa(counts)))
    return pd.DataFrame(rows, columns=["label", "clips", "heard", "agreement", "kappa"])


def fleiss_kappa(counts: np.ndarray) -> tuple[float, float]:
    """Observed agreement and Fleiss' kappa, for any number of answers a subject.

    Parameters
    ----------
    counts : numpy.ndarray [shape=(subjects, categories)]
        How many gave each answer; at least two answers a subject.

    Returns
    -------
    agreement : float
        Share of agreeing pairs, mean over subjects.
    kappa : float
        How far that is above what the categories' shares give by chance: 1 at best, 0 for chance.

    References
    ----------
    Fleiss, Measuring nominal scale agreement among many raters, Psychological Bulletin 76 (1971).
    """
    if not len(counts):
        return np.nan, np.nan
    answers = counts.sum(axis=1)
    pairs = (counts * (counts - 1)).sum(axis=1) / (answers * (answers - 1))
    chance = np.square(counts.sum(axis=0) / answers.sum()).sum()
    observed = pairs.mean()
    return float(observed), float((observed - chance) / (1 - chance)) if chance < 1 else np.nan
