"""From the volunteers' votes to the truth, learnt where some clips have ground truth.

Boosted trees see for each clip and label the posterior of ``pooled``, the votes on the label, its group and
its siblings, what the sensor's other clips have, how generous the clip's volunteers are, and all votes of
the clip. A clip that has ground truth is answered by trees that have seen no clip of its sensor.
"""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.rules.pooled import Pooled, combine_coarse, fit_annotator_model, logit
from ust.annotations.rules.votes import Votes, rule_from_estimate
from ust.util.config import Count, Positive, Seed, Weight
from ust.util.errors import UserError

SENSOR_PRIOR_CLIPS = 5.0  # clips that the prevalence of all sensors counts as, beside a sensor's own
LIMIT = 1e-5


class Verified(Pooled):
    """What of params.yaml sets the rule: that of ``pooled``, and how the trees grow."""

    seed: Seed
    forests: Count  # of other seeds, averaged
    trees: Count
    rate: Positive
    leaves: Annotated[int, Field(ge=2)]
    smallest_leaf: Count
    l2: Weight
    features: Annotated[float, Field(gt=0, le=1)]  # share of them that a split chooses from


def estimate_verified(votes: Votes, settings: Verified, annotations: pd.DataFrame) -> np.ndarray:
    """Probabilities [shape=(clips, labels)].

    Raises
    ------
    UserError
        If clips of fewer than two sensors have ground truth.
    """
    x = tree_features(votes, settings)
    truth = annotations[annotations["annotator_id"] == GROUND_TRUTH].set_index("audio_filename")
    known = np.flatnonzero(np.isin(votes.clips, truth.index.to_numpy(str)))
    y = (truth.loc[votes.clips[known], list(votes.taxonomy.labels)] == 1).to_numpy()
    sensors = votes.sensors[known]
    if len(np.unique(sensors)) < 2:
        raise UserError(
            f"ground truth (annotator_id 0) of {len(np.unique(sensors))} sensor(s), too few to learn from; "
            "the rule verified needs some of two sensors at least"
        )
    answers = np.zeros((len(votes.clips), x.shape[1]))
    rest = np.setdiff1d(np.arange(len(x)), known)
    if len(rest):
        answers[rest] = _answers(x[known], y, x[rest], settings)
    for sensor in np.unique(sensors):
        held = sensors == sensor
        answers[known[held]] = _answers(x[known[~held]], y[~held], x[known[held]], settings)
    return combine_coarse(answers, votes.taxonomy)


def tree_features(votes: Votes, settings: Pooled) -> np.ndarray:
    """What the trees see of each clip and label [shape=(clips, labels, values)]; the label's number is
    last."""
    taxonomy = votes.taxonomy
    coarse, labels = len(taxonomy.coarse), len(taxonomy.labels)
    group = np.array([*range(coarse), *taxonomy.group])
    own, _, effect = fit_annotator_model(votes, settings)
    heard = votes.sum_by_clip(votes.presence == 1)
    rows = votes.sum_by_clip(np.ones(len(votes.clip)))
    generous = votes.sum_by_clip(effect[votes.annotator]) / rows[:, None]
    siblings = _of_group(heard, coarse, group) - np.where(np.arange(labels) < coarse, 0, heard)
    sums = np.zeros((votes.sensors.max() + 1, labels))
    np.add.at(sums, votes.sensors, own)
    clips = np.bincount(votes.sensors)[votes.sensors][:, None]
    elsewhere = (sums[votes.sensors] - own + SENSOR_PRIOR_CLIPS * own.mean(axis=0)) / (
        clips - 1 + SENSOR_PRIOR_CLIPS
    )
    joined = combine_coarse(own, votes.taxonomy)[:, :coarse]

    def of_clip(values: np.ndarray) -> np.ndarray:
        return np.repeat(values[:, None, :], labels, axis=1)

    of_label = [
        logit(own, LIMIT),
        logit(own[:, :coarse], LIMIT)[:, group],
        logit(joined, LIMIT)[:, group],
        heard,
        heard[:, :coarse][:, group],
        siblings,
        logit(elsewhere, LIMIT),
        logit(elsewhere[:, :coarse], LIMIT)[:, group],
        np.tile(logit(own.mean(axis=0), LIMIT), (len(own), 1)),
    ]
    number = np.tile(np.arange(labels), (len(own), 1))
    return np.concatenate(
        [
            np.stack(of_label, axis=2),
            of_clip(generous),
            of_clip(heard),
            of_clip(logit(own[:, :coarse], LIMIT)),
            number[:, :, None],
        ],
        axis=2,
    )


def _of_group(heard: np.ndarray, coarse: int, group: np.ndarray) -> np.ndarray:
    """By label, the fine votes of its group [shape=(clips, labels)]."""
    sums = np.stack([heard[:, coarse:][:, group[coarse:] == g].sum(axis=1) for g in range(coarse)], axis=1)
    return sums[:, group]


def _answers(x: np.ndarray, y: np.ndarray, asked: np.ndarray, settings: Verified) -> np.ndarray:
    """What trees grown on some clips say of others [shape=(clips, labels)]."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    total = np.zeros(asked.shape[:2])
    for number in range(settings.forests):
        model = HistGradientBoostingClassifier(
            learning_rate=settings.rate,
            max_iter=settings.trees,
            max_leaf_nodes=settings.leaves,
            min_samples_leaf=settings.smallest_leaf,
            l2_regularization=settings.l2,
            max_features=settings.features,
            categorical_features=[x.shape[2] - 1],
            early_stopping=False,
            random_state=settings.seed + number,
        )
        with threadpool_limits(1, "openmp"):  # which stand in one another's way where others compute, too
            model.fit(x.reshape(-1, x.shape[2]), y.ravel())
        total += model.predict_proba(asked.reshape(-1, x.shape[2]))[:, 1].reshape(total.shape)
    return total / settings.forests


RULE = rule_from_estimate(Verified, estimate_verified, supervised=True)
