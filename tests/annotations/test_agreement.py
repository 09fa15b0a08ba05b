"""Label counts and annotator agreement, compared with published figures and plain loops."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from conftest import aggregate

from ust.annotations.agreement import AGGREGATED, ANY_ANNOTATOR, count_labels, fleiss_kappa, measure_agreement


def test_fleiss_kappa_of_a_published_table():
    """Fleiss' own example has fourteen raters, ten subjects and five categories."""
    counts = np.array([
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ])  # fmt: skip
    assert fleiss_kappa(counts) == pytest.approx((0.378, 0.210), abs=5e-4)


def test_kappa_of_full_and_no_agreement():
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == (1, 1)
    observed, kappa = fleiss_kappa(np.array([[3, 0], [2, 0]]))
    assert observed == 1
    assert np.isnan(kappa)
    assert np.isnan(fleiss_kappa(np.zeros((0, 2)))).all()


def test_agreement_matches_counts_by_pair(annotated):
    annotations, taxonomy = annotated
    found = measure_agreement(annotations, taxonomy).set_index("label")
    for label in ("1_engine", "6-1_stationary-music"):
        shares = []
        for _, rows in annotations[annotations["annotator_id"] > 0].groupby("audio_filename"):
            votes = [vote for vote in rows[label] if vote != -1]
            if len(votes) > 1:
                shares.append(np.mean([a == b for a, b in combinations(votes, 2)]))
        assert found.loc[label, "clips"] == len(shares)
        assert found.loc[label, "agreement"] == pytest.approx(np.mean(shares))
        assert -1 <= found.loc[label, "kappa"] <= 1


def test_label_counts_match_annotations(annotated):
    annotations, taxonomy = annotated
    labels = aggregate(annotations, taxonomy, threshold=0.5, soft=False).set_index("audio_filename")
    counts = count_labels(annotations, labels, taxonomy).set_index(["split", "label", "counted"])["clips"]
    engine = annotations[annotations["1_engine"] == 1]
    for split in ("train", "validate"):
        rows = engine[engine["split"] == split]
        assert counts[split, "1_engine", ANY_ANNOTATOR] == rows["audio_filename"].nunique()
        assert counts[split, "1_engine", AGGREGATED] == labels.query("split == @split")["1_engine"].sum()
    assert len(counts) == 2 * 2 * 37


def test_one_annotation_gives_no_agreement(taxonomy):
    keys = {"split": "train", "sensor_id": "1", "audio_filename": ["a.wav", "a.wav", "b.wav"]}
    votes = {label: [1, -1, 0] for label in taxonomy.labels}
    annotations = pd.DataFrame(keys | {"annotator_id": [1, 2, 3]} | votes)
    found = measure_agreement(annotations, taxonomy)
    assert (found["clips"] == 0).all()
    assert found[["marked", "agreement", "kappa"]].isna().all(axis=None)
