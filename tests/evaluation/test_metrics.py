"""The official metrics, compared with a loop over thresholds and with the official code's figures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import score as slow_score

from ust.annotations.annotations import AS_GIVEN, read_annotations, select_ground_truth
from ust.annotations.taxonomy import Taxonomy, read_taxonomy
from ust.evaluation.evaluation import Evaluation
from ust.evaluation.metrics import coarse_counts, compute_scores, fine_counts

COUNTERS = {"coarse": coarse_counts, "fine": fine_counts}


@st.composite
def taxonomies(draw):
    """Strategy: up to four groups, each with complete labels, an incomplete label, or both."""
    coarse, fine, group = [], [], []
    for g in range(draw(st.integers(1, 4))):
        coarse.append(f"{g + 1}_group{g}")
        complete, has_x = draw(st.integers(0, 3)), draw(st.booleans())
        names = [f"{g + 1}-{k + 1}_f" for k in range(complete)]
        names += [f"{g + 1}-X_f"] if has_x or not complete else []
        fine += names
        group += [g] * len(names)
    return Taxonomy(tuple(coarse), tuple(fine), tuple(group))


VALUES = st.one_of(
    st.sampled_from([0.0, 0.005, 0.01, 0.3, 0.5, 0.500001, 1.0]),
    st.floats(0, 1, allow_nan=False).map(lambda v: round(v, 2)),
    st.floats(0, 1, allow_nan=False),
)


@pytest.mark.parametrize("level", ["coarse", "fine"])
@settings(deadline=None, max_examples=300)
@given(data=st.data(), taxonomy=taxonomies(), clips=st.integers(1, 12))
def test_metrics_match_loop_over_thresholds(level, data, taxonomy, clips):
    labels = len(taxonomy.coarse if level == "coarse" else taxonomy.fine)
    rate = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    truth = (np.random.default_rng(seed).random((clips, labels)) < rate).astype(int)
    flat = data.draw(st.lists(VALUES, min_size=clips * labels, max_size=clips * labels))
    predicted = np.array(flat).reshape(clips, labels)
    check(truth, predicted, taxonomy, level)


@pytest.mark.parametrize("level", ["coarse", "fine"])
@pytest.mark.parametrize(
    "make",
    [
        lambda y, rng: np.zeros(y.shape),
        lambda y, rng: np.ones(y.shape),
        lambda y, rng: np.full(y.shape, 0.3),
        lambda y, rng: rng.integers(0, 2, y.shape).astype(float),
        lambda y, rng: rng.integers(0, 8, y.shape) / 7,
        lambda y, rng: y.astype(float),
    ],
    ids=["zeros", "ones", "constant", "binary", "tied", "truth"],
)
def test_metrics_of_ties_and_extremes_match_loop_over_thresholds(taxonomy, level, make):
    rng = np.random.default_rng(7)
    truth = rng.random((60, len(taxonomy.coarse if level == "coarse" else taxonomy.fine))) < 0.1
    check(truth.astype(int), make(truth, rng), taxonomy, level)


def check(truth, predicted, taxonomy, level):
    micro, f1, macro, categories = slow_score(truth, predicted, taxonomy, level)
    found = compute_scores(COUNTERS[level](truth, predicted, taxonomy), taxonomy.categories(level))
    np.testing.assert_allclose(found.micro_auprc, micro, atol=1e-9)
    np.testing.assert_allclose(found.micro_f1, f1, atol=1e-9)
    np.testing.assert_allclose(found.macro_auprc, macro, atol=1e-9)
    np.testing.assert_allclose(list(found.class_auprc.values()), categories, atol=1e-9)
    present = [a for a, n in zip(categories, found.class_positives.values(), strict=True) if n]
    np.testing.assert_allclose(found.macro_auprc_present, np.mean(present) if present else 0, atol=1e-9)


@pytest.fixture(scope="module")
def annotated_truth(annotated):
    annotations, taxonomy = annotated
    return taxonomy, select_ground_truth(annotations, "validate")


def test_perfect_predictions_score_1(annotated_truth):
    taxonomy, truth = annotated_truth
    evaluation = Evaluation.from_tables(truth, truth[list(taxonomy.labels)].astype(float), taxonomy)
    for level in ("fine", "coarse"):
        scores = evaluation.scores(level)
        assert scores.micro_auprc == scores.micro_f1 == scores.macro_auprc == 1


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_metrics_on_annotations_match_loop_over_thresholds(annotated_truth, seed):
    """Predictions are constant, and noisy with ties."""
    taxonomy, truth = annotated_truth
    labels = list(taxonomy.labels)
    predicted = truth[labels] * 0 + 0.3
    if seed is not None:
        rng = np.random.default_rng(seed)
        signal = (truth[labels] == 1) * 0.3
        predicted = (signal + rng.uniform(0, 0.7, signal.shape)).round(2)
    evaluation = Evaluation.from_tables(truth, predicted, taxonomy)
    for level in ("fine", "coarse"):
        found = evaluation.scores(level)
        wanted = slow_score(evaluation.truth[level], evaluation.predicted[level], taxonomy, level)
        assert (found.micro_auprc, found.micro_f1, found.macro_auprc) == pytest.approx(wanted[:3], abs=1e-12)
        assert list(found.class_auprc.values()) == pytest.approx(wanted[3], abs=1e-12)


def test_constant_prediction_matches_official_code(sonyc_ust_v1):
    taxonomy = read_taxonomy(sonyc_ust_v1 / "dcase-ust-taxonomy.yaml")
    path = sonyc_ust_v1 / "annotations.csv"
    truth = select_ground_truth(
        read_annotations(path, taxonomy, AS_GIVEN), "validate"
    )  # as the official code read it
    evaluation = Evaluation.from_tables(truth, truth[list(taxonomy.labels)] * 0 + 0.3, taxonomy)
    fine, coarse = evaluation.scores("fine"), evaluation.scores("coarse")
    assert fine.micro_auprc == pytest.approx(0.0349810644, abs=1e-9)
    assert fine.macro_auprc == pytest.approx(0.0372612932, abs=1e-9)
    assert coarse.micro_auprc == pytest.approx(0.1020033860, abs=1e-9)
    assert coarse.macro_auprc == pytest.approx(0.1020033860, abs=1e-9)
    assert fine.micro_f1 == coarse.micro_f1 == 0


def test_constant_prediction_equals_label_prevalence(annotated_truth):
    taxonomy, truth = annotated_truth
    labels = list(taxonomy.labels)
    constant = truth[labels] * 0 + (truth[labels] == 1).mean()
    wanted = Evaluation.from_tables(truth, constant, taxonomy)
    found = Evaluation.from_tables(truth, truth[labels] * 0.0, taxonomy).constant()
    for level in ("fine", "coarse"):
        assert found.scores(level) == wanted.scores(level)


def test_coarse_constant_scores_half_the_prevalence(annotated_truth):
    """The official precision is 0 where nothing is predicted, so the area is a triangle."""
    taxonomy, truth = annotated_truth
    evaluation = Evaluation.from_tables(truth, truth[list(taxonomy.labels)] * 0.0 + 0.3, taxonomy)
    shares = evaluation.prevalence("coarse")
    for group, label in enumerate(taxonomy.coarse):
        assert shares[taxonomy.coarse_name(group)] == pytest.approx((truth[label] == 1).mean())
    areas = evaluation.constant().scores("coarse").class_auprc
    for name, share in shares.items():
        assert areas[name] == pytest.approx(share / 2)


def test_fine_prevalence_counts_clips_with_any_label_of_the_category(annotated_truth):
    taxonomy, truth = annotated_truth
    evaluation = Evaluation.from_tables(truth, truth[list(taxonomy.labels)] * 0.5, taxonomy)
    for group in taxonomy.groups("fine"):
        members = taxonomy.fine_labels(group)
        share = (truth[members] == 1).any(axis=1).mean()
        assert evaluation.prevalence("fine")[taxonomy.coarse_name(group)] == pytest.approx(share)


def test_category_without_positives_scores_0_and_is_left_out_of_second_mean():
    taxonomy = Taxonomy(("1_a", "2_b"), ("1-1_c", "2-1_d"), (0, 1))
    truth = np.array([[1, 0], [0, 0]])
    found = compute_scores(coarse_counts(truth, truth * 1.0, taxonomy), taxonomy.categories("coarse"))
    assert found.class_auprc == {"a": 1.0, "b": 0.0}
    assert (found.macro_auprc, found.macro_auprc_present) == (0.5, 1.0)
