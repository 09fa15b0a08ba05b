"""Aggregation of annotations to labels, compared with a loop over clips."""

import numpy as np
import pandas as pd
import pytest
from conftest import aggregate, aggregate_any

from ust.annotations.annotations import find_clips_without_ground_truth
from ust.annotations.labels import mask_unasked
from ust.training.losses import positive_weights


def label_by_rule(rows, label, threshold, soft, split):
    """Return the label of one clip by the report's rule."""
    truth = [row for row in rows if row["annotator_id"] == 0]
    if truth and split != "train":
        votes, soft = [row[label] for row in truth], False
    else:
        volunteers = [row for row in rows if row["annotator_id"] > 0]
        votes = [row[label] for row in volunteers or rows]
        soft = soft and split == "train"
    labelled = [vote for vote in votes if vote != -1]
    share = sum(vote == 1 for vote in labelled) / len(labelled) if labelled else 0.0
    return share if soft else float(share > threshold)


@pytest.mark.parametrize(
    ("threshold", "soft"), [(0.25, False), (0.5, False), (0.75, False), (0.5, True)], ids=str
)
def test_majority_matches_loop_over_rows(annotated, threshold, soft):
    annotations, taxonomy = annotated
    labels = aggregate(annotations, taxonomy, threshold=threshold, soft=soft)
    counts = {"train": 40, "validate": 24} if len(annotations) < 1000 else {"train": 2351, "validate": 443}
    assert labels["split"].value_counts().to_dict() == counts
    assert {dtype.kind for dtype in labels[list(taxonomy.labels)].dtypes} == {"f" if soft else "i"}
    assert list(labels.columns) == ["split", "audio_filename", *taxonomy.labels]
    rows = {}
    for row in annotations.to_dict("records"):
        rows.setdefault(row["audio_filename"], []).append(row)
    wanted = [
        [label_by_rule(rows[clip], label, threshold, soft, split) for label in taxonomy.labels]
        for split, clip in zip(labels["split"], labels["audio_filename"], strict=True)
    ]
    np.testing.assert_allclose(labels[list(taxonomy.labels)].to_numpy(float), wanted, atol=1e-6)


def table(taxonomy, votes):
    """Return annotations of one label from (split, clip, annotator, presence) rows; other labels are 0."""
    rows = []
    for split, clip, annotator, presence in votes:
        row = {"split": split, "sensor_id": "1", "audio_filename": clip, "annotator_id": annotator}
        rows.append(row | dict.fromkeys(taxonomy.labels, 0) | {"8_dog": presence})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("votes", "threshold", "soft", "label"),
    [
        ([1, 1, 0], 0.5, False, 1),
        ([1, 0, 0], 0.5, False, 0),
        ([1, 0, 0], 0.25, False, 1),
        ([1, 1, 0], 0.75, False, 0),
        ([1, -1, -1], 0.5, False, 1),  # annotators without the label do not count
        ([1, 0, -1], 0.5, False, 0),  # half is not more than half
        ([-1, -1, -1], 0.0, False, 0),
        ([1, 1, 0], 0.5, True, 0.666667),
        ([1, -1, 0], 0.5, True, 0.5),
    ],
)
def test_majority_of_volunteer_votes(taxonomy, votes, threshold, soft, label):
    annotations = table(taxonomy, [("train", "a.wav", i + 1, vote) for i, vote in enumerate(votes)])
    assert aggregate(annotations, taxonomy, threshold=threshold, soft=soft)["8_dog"].tolist() == [label]


def test_scored_split_has_labels_only_for_verified_clips(taxonomy):
    """SONYC-UST v2 has team annotations beside those of volunteers, and ground truth for some clips."""
    votes = [("validate", "a.wav", 1, 1), ("validate", "a.wav", 2, 1), ("validate", "a.wav", 0, 0)]
    votes += [("validate", "b.wav", 1, 1), ("validate", "b.wav", 2, 1), ("validate", "b.wav", -1, 0)]
    votes += [("test", "c.wav", -1, 0), ("test", "c.wav", -2, 1), ("test", "c.wav", 0, 1)]
    annotations = table(taxonomy, votes)
    for labels in (
        aggregate(annotations, taxonomy, threshold=0.5, soft=True),
        aggregate_any(annotations, taxonomy),
    ):
        assert labels["audio_filename"].tolist() == ["c.wav", "a.wav"]
        assert labels["8_dog"].tolist() == [1, 0]
    assert find_clips_without_ground_truth(annotations, "validate") == ["b.wav"]
    assert find_clips_without_ground_truth(annotations, "test") == []


def test_split_without_truth_uses_volunteers(taxonomy):
    votes = [("validate", "a.wav", 1, 1), ("validate", "a.wav", 2, 1), ("validate", "a.wav", 3, 0)]
    votes += [("validate", "b.wav", -1, 1), ("validate", "b.wav", -2, 1)]
    labels = aggregate(table(taxonomy, votes), taxonomy, threshold=0.5, soft=True)
    assert labels["8_dog"].tolist() == [1, 1]


def test_train_clips_use_volunteers_even_with_truth(taxonomy):
    votes = [("train", "a.wav", 1, 0), ("train", "a.wav", 2, 0), ("train", "a.wav", 0, 1)]
    votes += [("train", "b.wav", -1, 1), ("train", "b.wav", 0, 1)]
    labels = aggregate(table(taxonomy, votes), taxonomy, threshold=0.5, soft=False)
    assert labels["8_dog"].tolist() == [0, 1]


def test_repeated_rows_count_once(taxonomy):
    votes = [("train", "a.wav", 1, 1), ("train", "a.wav", 2, 0), ("train", "a.wav", 3, 0)]
    once, twice = (table(taxonomy, votes + extra) for extra in ([], 2 * votes[:1]))
    assert aggregate(twice, taxonomy, threshold=0.5, soft=False)["8_dog"].tolist() == [0]
    pd.testing.assert_frame_equal(*(aggregate(t, taxonomy, threshold=0.5, soft=True) for t in (once, twice)))


def test_unannotated_labels_are_masked(annotated):
    annotations, taxonomy = annotated
    names = list(taxonomy.labels)
    rng = np.random.default_rng(0)
    annotations = annotations.copy()
    annotations.loc[:, names] = np.where(rng.random(annotations[names].shape) < 0.6, -1, annotations[names])
    silent = annotations["audio_filename"].iloc[0]
    annotations.loc[annotations["audio_filename"] == silent, names] = -1
    labels = aggregate(annotations, taxonomy, threshold=0.5, soft=False)
    masked = mask_unasked(labels, annotations, taxonomy)
    assert set(labels["audio_filename"]) - set(masked["audio_filename"]) >= {silent}
    rows = dict(list(annotations.groupby("audio_filename")))
    before = labels.set_index("audio_filename")
    for _, row in masked.iterrows():
        clip = row["audio_filename"]
        for label in names:
            if (rows[clip][label] == -1).all():
                assert np.isnan(row[label])
            else:
                assert row[label] == before.loc[clip, label]


def test_any_rule_needs_one_positive_vote(taxonomy):
    votes = [("train", "a.wav", 1, 0), ("train", "a.wav", 2, 1), ("train", "a.wav", -3, 0)]
    votes += [("train", "b.wav", 1, 0), ("train", "b.wav", -3, 1), ("train", "c.wav", 1, -1)]
    votes += [("train", "d.wav", 1, 1), ("train", "d.wav", 0, 0), ("validate", "e.wav", 1, 0)]
    votes += [("validate", "e.wav", 0, 1)]
    labels = aggregate_any(table(taxonomy, votes), taxonomy)
    assert labels["8_dog"].tolist() == [1, 1, 0, 0, 1]
    assert labels["audio_filename"].tolist() == [f"{name}.wav" for name in "abcde"]


def test_any_rule_matches_loop_and_positive_weights(annotated):
    annotations, taxonomy = annotated
    labels = aggregate_any(annotations, taxonomy)
    names = list(taxonomy.labels)
    votes = {}
    for row in annotations.to_dict("records"):
        votes.setdefault(row["audio_filename"], []).append(row)
    for record in labels.to_dict("records"):
        rows = votes[record["audio_filename"]]
        rows = [row for row in rows if row["annotator_id"] == 0] or rows
        assert [record[name] for name in names] == [
            int(any(row[name] == 1 for row in rows)) for name in names
        ]

    train = aggregate(annotations, taxonomy, threshold=0.5, soft=False).query("split == 'train'")
    weights = positive_weights(train[names].to_numpy(np.float32), 0.1)
    for name, weight in zip(names, weights, strict=True):
        positives = sum(value == 1 for value in train[name])
        wanted = ((len(train) - positives) / positives) ** 0.1 if positives else 1.0
        assert weight == pytest.approx(wanted)
    assert weights.max() > 1.3
