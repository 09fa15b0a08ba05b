"""Label rules: definitions, invariances and degenerate votes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from volunteers import POOLED, ROWS, crowd, people

from ust.annotations.rules import pooled
from ust.annotations.rules.fraction import estimate_fraction
from ust.annotations.rules.pooled import (
    combine_coarse,
    estimate_pooled,
    fit_annotator_model,
)
from ust.annotations.rules.registry import RULES, LabelQuality, check_label_quality
from ust.annotations.rules.relabel import RelabelConfig, estimate_relabel
from ust.annotations.rules.votes import collect_votes
from ust.annotations.taxonomy import Taxonomy
from ust.util.errors import UserError

WITH_OUTPUTS = {"model_outputs": "data/features/mn.h5", "penalty": 1.0, "folds": 2, "rounds": 3}


def options(name):
    """Return the settings of a rule in params.yaml."""
    if name == "relabel":
        return RelabelConfig(**dict(POOLED), **WITH_OUTPUTS)
    return RULES[name].settings(**{key: value for key, value in ROWS[name].items() if key != "rule"})


def test_fraction_ignores_annotators_without_the_label(taxonomy):
    votes_by_clip = (("00_a.wav", 1, 1), ("00_a.wav", 2, -1), ("00_a.wav", 3, 0), ("00_b.wav", 1, -1))
    annotations = people(taxonomy, [(clip, who, {"8_dog": vote}) for clip, who, vote in votes_by_clip])
    votes = collect_votes(annotations, taxonomy)
    column = taxonomy.labels.index("8_dog")
    assert estimate_fraction(votes, options("fraction"))[:, column].tolist() == [0.5, 0.0]


@pytest.mark.whole
@pytest.mark.parametrize("name", ["fraction", "dawid_skene", "pooled", "relabel", "verified"])
def test_rules_are_invariant_to_row_order_and_annotator_names(name, taxonomy):
    annotations, truth = crowd(taxonomy)
    extra = {}
    names = collect_votes(annotations, taxonomy).clips
    if RULES[name].needs_model_outputs:
        extra["embeddings"] = pd.DataFrame(np.random.default_rng(1).normal(size=(len(names), 8)), names)
    agreed = annotations.drop_duplicates("audio_filename").assign(annotator_id=0)
    agreed[list(taxonomy.fine)] = truth.astype(int)
    shuffled = annotations.sample(frac=1, random_state=3)
    shuffled = shuffled.assign(annotator_id=2000 - shuffled["annotator_id"])
    found = []
    for table in (annotations, shuffled):
        given = extra | ({"annotations": pd.concat([table, agreed])} if RULES[name].supervised else {})
        found.append(RULES[name].estimate(collect_votes(table, taxonomy), options(name), **given))
    np.testing.assert_allclose(*found, atol=1e-6)
    assert not np.isnan(found[0]).any()
    assert found[0].min() >= 0
    assert found[0].max() <= 1


def aggregate_by(name, annotations, taxonomy):
    """Return the labels by a rule with the settings of params.yaml, indexed by clip."""
    clips = annotations["audio_filename"].unique()
    noise = pd.DataFrame(np.random.default_rng(1).normal(size=(len(clips), 8)), clips)
    inputs = {"embeddings": noise} if RULES[name].needs_model_outputs else {}
    labels = RULES[name].aggregate(annotations, taxonomy, options(name), **inputs)
    return labels.set_index("audio_filename")[list(taxonomy.labels)].astype(float)


def ground_truth_rows(annotations, truth, taxonomy):
    """Return ground-truth rows of the clips of `crowd`."""
    rows = annotations.drop_duplicates("audio_filename").assign(annotator_id=0)
    rows[list(taxonomy.fine)] = truth.astype(int)
    return rows


def test_rule_without_estimate_is_not_compared(monkeypatch):
    """A rule without probabilities, such as `unanimous` in docs/recipes.md, is not compared."""
    monkeypatch.setitem(RULES, "any", replace(RULES["any"], estimate=None))
    rules = {"first": {"rule": "any"}, "pooled": {"rule": "pooled"}}
    section = LabelQuality(
        split="validate", bootstrap=10, seed=1, doubtful=1, annotators="pooled", rules=rules
    )
    (problem,) = check_label_quality(section)
    assert problem.startswith(
        "label_quality.rules.first.rule: is 'any', which aggregates labels but does not"
    )


@pytest.mark.whole
@pytest.mark.parametrize("name", RULES)
def test_rules_accept_a_taxonomy_without_fine_labels(name, taxonomy):
    annotations, truth = crowd(taxonomy)
    everything = pd.concat([annotations, ground_truth_rows(annotations, truth, taxonomy)])
    coarse = everything.drop(columns=list(taxonomy.fine))
    labels = aggregate_by(name, coarse, Taxonomy(taxonomy.coarse, (), ()))
    assert list(labels.columns) == list(taxonomy.coarse)
    assert labels.to_numpy().max() > 0.5


@pytest.mark.whole
@pytest.mark.parametrize("name", RULES)
def test_train_clips_with_only_ground_truth_keep_it(name, taxonomy):
    annotations, truth = crowd(taxonomy)
    agreed = ground_truth_rows(annotations, truth, taxonomy)
    alone = agreed["audio_filename"].str[-5] == "7"
    voted = annotations[~annotations["audio_filename"].isin(agreed.loc[alone, "audio_filename"])]
    wanted = agreed[alone].set_index("audio_filename")[list(taxonomy.labels)]
    for table in (pd.concat([voted, agreed]), agreed[alone]):  # some clips have votes, or none
        labels = aggregate_by(name, table, taxonomy)
        np.testing.assert_array_equal(labels.loc[wanted.index], wanted)


def test_pooled_recovers_the_truth_better_than_the_fraction(taxonomy):
    annotations, truth = crowd(taxonomy, coins=2)
    votes = collect_votes(annotations, taxonomy)
    fine = slice(len(taxonomy.coarse), None)
    errors = [
        np.abs(values[:, fine] - truth).mean()
        for values in (votes.fraction(), estimate_pooled(votes, POOLED))
    ]
    assert errors[1] < 0.2 * errors[0]


def fit_by_rows(votes, options):
    """Fit the model of `fit_annotator_model` on an array of all votes, row by row and label by label."""
    typical = logit(np.array([options.false_alarm, options.sensitivity]))
    deviation, correlation = np.array(options.annotator_deviation), options.correlation
    precision = np.linalg.inv(np.outer(deviation, deviation) * [[1, correlation], [correlation, 1]])
    label_precision = 1 / np.square(options.label_deviation)
    labelled, yes = (votes.presence != -1).astype(float), (votes.presence == 1).astype(float)
    own = np.clip(votes.fraction(), 0.02, 0.9)
    theta, effect = np.tile(typical, (yes.shape[1], 1)), np.zeros((len(votes.annotators), 2))
    for _ in range(options.iterations):
        weights = np.stack([1 - own[votes.clip], own[votes.clip]]) * labelled

        def rates(theta, effect):
            return expit(theta.T[:, None, :] + effect[votes.annotator].T[:, :, None])

        for _ in range(2):
            p = rates(theta, effect)
            gradient = (weights * (yes - p)).sum(axis=1).T - (theta - typical) * label_precision
            curvature = (weights * p * (1 - p)).sum(axis=1).T + label_precision
            theta = theta + np.clip(gradient / curvature, -1, 1)
            p = rates(theta, effect)
            gradient, curvature = np.zeros((2, *effect.shape))
            np.add.at(gradient, votes.annotator, (weights * (yes - p)).sum(axis=2).T)
            np.add.at(curvature, votes.annotator, (weights * p * (1 - p)).sum(axis=2).T)
            for annotator, own_effect in enumerate(effect.copy()):
                hessian = np.diag(curvature[annotator]) + precision
                step = np.linalg.solve(hessian, gradient[annotator] - precision @ own_effect)
                effect[annotator] = own_effect + np.clip(step, -1, 1)
        false, hit = expit(typical + effect)[votes.annotator].T[:, :, None]
        excess = (labelled * (hit - false) * (yes - false)).sum(axis=0)
        expected = np.clip(excess / np.maximum((labelled * (hit - false) ** 2).sum(axis=0), 1e-5), 1e-5, 1)
        prevalence = (own.mean(axis=0) + options.anchor * expected) / (1 + options.anchor)
        prior = pooled._prior(np.clip(prevalence, 1e-5, 1 - 1e-5), own, votes.taxonomy, options.coupling)
        p = rates(theta, effect)
        ratio = np.where(yes == 1, np.log(p[1] / p[0]), np.log((1 - p[1]) / (1 - p[0]))) * labelled
        evidence = np.zeros_like(own)
        np.add.at(evidence, votes.clip, ratio)
        own = expit(prior + evidence)
    return own, theta, effect


@pytest.mark.parametrize("odd", [False, True], ids=["annotated", "many not asked"])
def test_pooled_posterior_matches_computation_row_by_row(annotated, odd):
    annotations, taxonomy = annotated
    if odd:
        names, rng = list(taxonomy.labels), np.random.default_rng(0)
        annotations = annotations.copy()
        values = annotations[names].to_numpy()
        annotations[names] = np.where(rng.random(values.shape) < 0.4, -1, values)
    votes = collect_votes(annotations, taxonomy)
    options = POOLED.model_copy(update={"iterations": 6})
    for found, wanted in zip(fit_annotator_model(votes, options), fit_by_rows(votes, options), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_random_annotator_has_no_weight(taxonomy):
    """A positive vote that is as likely for absent as for present labels changes no posterior."""
    without, with_him = (collect_votes(crowd(taxonomy, coins=coins)[0], taxonomy) for coins in (0, 1))
    _, theta, effect = fit_annotator_model(with_him, POOLED)
    logits = theta.mean(axis=0) + effect
    weight = logits[:, 1] - logits[:, 0]  # of a yes, as a log-likelihood ratio
    coin = with_him.annotators == 1000
    assert abs(weight[coin].item()) < 0.6
    assert weight[~coin].min() > 4
    before, after = (
        estimate_pooled(votes, POOLED)[:, len(taxonomy.coarse) :] for votes in (without, with_him)
    )
    assert ((before > 0.5) == (after > 0.5)).mean() > 0.995
    assert np.abs(with_him.fraction() - without.fraction()).mean() > 0.1  # which moves the share


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_degenerate_votes_give_finite_labels(data, taxonomy):
    """Covers clips without votes, single volunteers, ties and duplicate rows."""
    rows = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["00_a.wav", "01_b.wav", "02_c.wav"]),
                st.integers(1, 4),
                st.dictionaries(st.sampled_from(taxonomy.labels), st.sampled_from([-1, 0, 1]), max_size=5),
            ),
            min_size=1,
            max_size=12,
        )
    )
    annotations = people(taxonomy, rows)
    for name in ("majority", "any", "fraction", "pooled"):
        labels = RULES[name].aggregate(annotations, taxonomy, options(name))
        values = labels[list(taxonomy.labels)].to_numpy(float)
        assert values.shape == (annotations["audio_filename"].nunique(), len(taxonomy.labels))
        assert ((values >= 0) & (values <= 1)).all()
    twice = pd.concat([annotations, annotations])
    first, second = (collect_votes(table, taxonomy) for table in (annotations, twice))
    np.testing.assert_array_equal(first.presence, second.presence)


def test_only_the_groups_own_fine_labels_imply_a_coarse_one(taxonomy):
    """In SONYC-UST 0.1, 3-1 always occurs together with machinery-impact by mistake."""
    impact, machinery = "3-1_non-machinery-impact", "2_machinery-impact"
    both = [(f"00_{i:06d}.wav", 1, {impact: 1, machinery: 1}) for i in range(25)]
    votes = collect_votes(people(taxonomy, both), taxonomy)
    own, _, _ = fit_annotator_model(votes, POOLED)
    group, labels = taxonomy.coarse.index(machinery), list(taxonomy.labels)
    members = [labels.index(label) for label in taxonomy.fine_labels(group)]
    noisy_or = 1 - np.prod(1 - own[:, members], axis=1)
    np.testing.assert_allclose(estimate_pooled(votes, POOLED)[:, group], (own[:, group] + noisy_or) / 2)


def test_a_coarse_label_without_fine_ones_keeps_its_own_posterior():
    taxonomy = Taxonomy(("1_a", "2_b"), ("1-1_c",), (0,))
    own = np.array([[0.2, 0.8, 0.5]])
    np.testing.assert_allclose(combine_coarse(own, taxonomy), [[(0.2 + 0.5) / 2, 0.8, 0.5]])


def test_ground_truth_of_scored_clips_informs_the_annotator_model(taxonomy):
    annotations, truth = crowd(taxonomy, clips=12)
    scored = annotations.assign(split="validate")
    scored["audio_filename"] = "9" + scored["audio_filename"]
    agreed = scored.drop_duplicates("audio_filename").assign(annotator_id=0)
    agreed[list(taxonomy.fine)] = truth.astype(int)
    labels = RULES["pooled"].aggregate(pd.concat([annotations, scored, agreed]), taxonomy, POOLED)
    part = labels[labels["split"] == "validate"].sort_values("audio_filename")
    np.testing.assert_array_equal(part[list(taxonomy.fine)].to_numpy(), truth)
    assert (labels["split"] == "train").sum() == 12
    alone = RULES["pooled"].aggregate(annotations, taxonomy, POOLED)
    train = labels[labels["split"] == "train"]
    assert not np.array_equal(train[list(taxonomy.fine)].to_numpy(), alone[list(taxonomy.fine)].to_numpy())


def test_soft_and_hard_labels(taxonomy):
    annotations, _ = crowd(taxonomy, clips=12)
    soft = RULES["pooled"].aggregate(annotations, taxonomy, POOLED)
    hard = RULES["pooled"].aggregate(annotations, taxonomy, POOLED.model_copy(update={"soft": False}))
    names = list(taxonomy.labels)
    np.testing.assert_array_equal(hard[names].to_numpy(), soft[names].to_numpy() > 0.5)
    assert 0 < soft[names].to_numpy().max() < 1


class TestRelabel:
    def test_embeddings_correct_wrong_votes(self, taxonomy):
        annotations, truth = crowd(taxonomy, clips=240)
        votes = collect_votes(annotations, taxonomy)
        rng = np.random.default_rng(2)
        sounds = truth @ rng.normal(size=(truth.shape[1], 40)) + 0.3 * rng.normal(size=(len(truth), 40))
        found = estimate_relabel(votes, options("relabel"), embeddings=pd.DataFrame(sounds, votes.clips))
        fine = slice(len(taxonomy.coarse), None)
        before, after = (np.abs(v[:, fine] - truth).mean() for v in (estimate_pooled(votes, POOLED), found))
        assert after < 0.7 * before

    def test_only_train_clips_use_embeddings(self, taxonomy):
        annotations, _ = crowd(taxonomy)
        annotations.loc[annotations["sensor_id"] == "05", "split"] = "validate"
        votes = collect_votes(annotations, taxonomy)
        sounds = pd.DataFrame(np.random.default_rng(2).normal(size=(len(votes.clips), 8)), votes.clips)
        other = sounds.copy()
        other.loc[votes.clips[votes.split == "validate"]] = 7.0
        a, b = (estimate_relabel(votes, options("relabel"), embeddings=table) for table in (sounds, other))
        np.testing.assert_array_equal(a, b)
        scored = votes.split == "validate"
        np.testing.assert_array_equal(a[scored], estimate_pooled(votes, POOLED)[scored])

    def test_predictions_add_evidence_to_the_votes(self, taxonomy):
        """One round adds the Platt-scaled log odds minus the log odds of the prevalence."""
        annotations, truth = crowd(taxonomy)
        votes = collect_votes(annotations, taxonomy)
        rng = np.random.default_rng(3)
        fine = slice(len(taxonomy.coarse), None)
        values = rng.uniform(0.05, 0.2, (len(votes.clips), len(taxonomy.labels)))
        values[:, fine] = np.where(truth, rng.uniform(0.3, 0.9, truth.shape), values[:, fine])
        predictions = pd.DataFrame(values, votes.clips, list(taxonomy.labels))
        once = options("relabel").model_copy(update={"rounds": 1})
        found = estimate_relabel(votes, once, predictions=predictions)
        voted = estimate_pooled(votes, POOLED)
        column = int(np.argmax(truth.sum(axis=0))) + len(taxonomy.coarse)
        score, label = np.log(values[:, column] / (1 - values[:, column])), voted[:, column]
        score = (score - score.mean()) / score.std()

        def loss(parameters):
            logits = parameters[0] * score + parameters[1]
            return (np.logaddexp(0, logits) - label * logits).sum() + parameters[0] ** 2 / 2

        scale, shift = minimize(loss, [1.0, 0.0]).x
        odds = np.log(label / (1 - label)) + scale * score + shift
        odds -= np.log(label.mean() / (1 - label.mean()))
        np.testing.assert_allclose(found[:, column], 1 / (1 + np.exp(-odds)), atol=2e-3)
        before, after = (np.abs(v[:, fine] - truth).mean() for v in (voted, found))
        assert after < 0.7 * before

    def test_predictions_may_be_of_some_clips_and_some_labels(self, taxonomy):
        annotations, _ = crowd(taxonomy)
        votes = collect_votes(annotations, taxonomy)
        values = np.random.default_rng(2).uniform(size=(20, len(taxonomy.labels)))
        values[:, 5] = 0.0  # a label that the file does not have
        predictions = pd.DataFrame(values, votes.clips[:20], list(taxonomy.labels))
        found = estimate_relabel(votes, options("relabel"), predictions=predictions)
        voted = estimate_pooled(votes, POOLED)
        np.testing.assert_array_equal(found[20:], voted[20:])
        np.testing.assert_allclose(found[:20, 5], voted[:20, 5], atol=0.01)
        assert not np.allclose(found[:20, 6], voted[:20, 6], atol=0.01)

    def test_too_few_sensors_for_the_folds(self, taxonomy):
        annotations, _ = crowd(taxonomy)
        votes = collect_votes(annotations, taxonomy)
        sounds = pd.DataFrame(np.zeros((len(votes.clips), 2)), votes.clips)
        with pytest.raises(UserError, match=r"of 6 sensor\(s\), too few for 9 folds; set folds lower"):
            estimate_relabel(votes, options("relabel").model_copy(update={"folds": 9}), embeddings=sounds)


class TestVerified:
    def test_verified_needs_ground_truth_of_two_sensors(self, taxonomy):
        annotations, _ = crowd(taxonomy)
        with pytest.raises(UserError, match=r"ground truth \(annotator_id 0\) of 0 sensor"):
            RULES["verified"].aggregate(annotations, taxonomy, options("verified"))

    def test_a_sensor_is_predicted_without_its_own_ground_truth(self, taxonomy):
        annotations, truth = crowd(taxonomy)
        clips = annotations.drop_duplicates("audio_filename").assign(annotator_id=0)
        clips[list(taxonomy.fine)] = truth.astype(int)
        other = clips.copy()
        own = other["sensor_id"] == "03"
        other.loc[own, list(taxonomy.fine)] = 1 - other.loc[own, list(taxonomy.fine)]
        votes = collect_votes(annotations, taxonomy)
        small = options("verified").model_copy(update={"max_iter": 5, "models": 1})
        a, b = (RULES["verified"].estimate(votes, small, annotations=table) for table in (clips, other))
        sensor = np.array([clip[:2] == "03" for clip in votes.clips])
        np.testing.assert_array_equal(a[sensor], b[sensor])
        assert not np.array_equal(a[~sensor], b[~sensor])

    def test_labels_that_the_ground_truth_was_not_asked_for_are_no_examples(self, taxonomy):
        annotations, truth = crowd(taxonomy)
        votes = collect_votes(annotations, taxonomy)
        small = options("verified").model_copy(update={"max_iter": 5, "models": 1})
        agreed = ground_truth_rows(annotations, truth, taxonomy)
        estimate = RULES["verified"].estimate
        before = estimate(votes, small, annotations=agreed)
        unasked = agreed["audio_filename"].str[-5] > "4"
        agreed.loc[unasked, list(taxonomy.labels)] = -1
        partial = estimate(votes, small, annotations=agreed)
        assert partial.mean() > 0.8 * before.mean()  # about half of it if -1 counts as absent

    def test_ground_truth_that_was_not_asked_for_any_label(self, taxonomy):
        annotations, truth = crowd(taxonomy)
        agreed = ground_truth_rows(annotations, truth, taxonomy).assign(**dict.fromkeys(taxonomy.labels, -1))
        votes = collect_votes(annotations, taxonomy)
        assert not RULES["verified"].estimate(votes, options("verified"), annotations=agreed).any()
