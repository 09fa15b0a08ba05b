"""Predict ground truth from the volunteers' votes, with boosted trees trained on the verified clips.

The inputs of the trees for each clip and label are the posterior of ``pooled``, the votes on the label, on
its group and on its siblings, the mean posterior over the sensor's other clips, the estimated bias of the
clip's volunteers, and all votes on the clip. Clips with ground truth are predicted out of fold; a fold is a
sensor.
"""

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from ust.annotations.annotations import GROUND_TRUTH
from ust.annotations.rules.pooled import PooledConfig, clipped_logit, combine_coarse, fit_annotator_model
from ust.annotations.rules.votes import Votes, rule_from_estimate
from ust.util.config import NonNegativeFloat, PositiveFloat, PositiveInt, Seed
from ust.util.errors import UserError

SENSOR_PRIOR_CLIPS = 5.0  # weight of the overall prevalence in a sensor's mean, in clips
LIMIT = 1e-5  # probabilities are clipped to [LIMIT, 1 - LIMIT]


class VerifiedConfig(PooledConfig):
    """Parameters of the rule: those of ``pooled`` and of the trees."""

    seed: Seed = 2019
    """Seed of the boosted trees."""
    models: PositiveInt = 3
    """Models with different seeds, which are averaged."""
    max_iter: PositiveInt = 100
    """Trees per model."""
    learning_rate: PositiveFloat = 0.05
    """Learning rate of boosting."""
    max_leaf_nodes: Annotated[int, Field(ge=2)] = 8
    """Largest number of leaves of a tree."""
    min_samples_leaf: PositiveInt = 30
    """Fewest examples (pairs of clip and label) in a leaf."""
    l2_regularization: NonNegativeFloat = 5.0
    """L2 penalty on the values of leaves."""
    max_features: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Fraction of the inputs considered for each split."""


def estimate_verified(votes: Votes, settings: VerifiedConfig, annotations: pd.DataFrame) -> np.ndarray:
    """Return label probabilities [shape=(clips, labels)]."""
    x = tree_features(votes, settings)
    truth = annotations[annotations["annotator_id"] == GROUND_TRUTH].set_index("audio_filename")
    verified = np.isin(votes.clips, truth.index.to_numpy(str))
    y = np.full(x.shape[:2], -1)
    y[verified] = truth.loc[votes.clips[verified], list(votes.taxonomy.labels)]
    sensors = np.unique(votes.sensors[verified])
    if len(sensors) < 2:
        raise UserError(
            f"ground truth (annotator_id 0) of {len(sensors)} sensor(s), too few to train on; "
            "the rule verified needs ground truth of at least two sensors"
        )
    probabilities = np.zeros(y.shape)
    if not verified.all():
        probabilities[~verified] = _fit_predict(x[verified], y[verified], x[~verified], settings)
    for sensor in sensors:
        train = verified & (votes.sensors != sensor)
        test = verified & (votes.sensors == sensor)
        probabilities[test] = _fit_predict(x[train], y[train], x[test], settings)
    return combine_coarse(probabilities, votes.taxonomy)


def tree_features(votes: Votes, settings: PooledConfig) -> np.ndarray:
    """Return the inputs of the trees [shape=(clips, labels, inputs)]; the last input is the label's index."""
    taxonomy = votes.taxonomy
    coarse, labels = len(taxonomy.coarse), len(taxonomy.labels)
    group = np.array([*range(coarse), *taxonomy.group])
    posterior, _, effect = fit_annotator_model(votes, settings)
    prevalence = posterior.mean(axis=0)
    combined = combine_coarse(posterior, taxonomy)
    positive = votes.sum_by_clip(votes.presence == 1)
    siblings = _group_votes(positive, coarse, group) - np.where(np.arange(labels) < coarse, 0, positive)
    rows = votes.sum_by_clip(np.ones(len(votes.clip)))
    bias = votes.sum_by_clip(effect[votes.annotator]) / rows[:, None]
    # Mean posterior over the sensor's other clips, shrunk towards the overall prevalence.
    sums = np.zeros((votes.sensors.max() + 1, labels))
    np.add.at(sums, votes.sensors, posterior)
    clips = np.bincount(votes.sensors)[votes.sensors][:, None]
    sensor_mean = (sums[votes.sensors] - posterior + SENSOR_PRIOR_CLIPS * prevalence) / (
        clips - 1 + SENSOR_PRIOR_CLIPS
    )

    by_label = [
        clipped_logit(posterior, LIMIT),
        clipped_logit(posterior[:, group], LIMIT),
        clipped_logit(combined[:, group], LIMIT),
        positive,
        positive[:, group],
        siblings,
        clipped_logit(sensor_mean, LIMIT),
        clipped_logit(sensor_mean[:, group], LIMIT),
        np.tile(clipped_logit(prevalence, LIMIT), (len(posterior), 1)),
    ]
    by_clip = np.concatenate([bias, positive, clipped_logit(posterior[:, :coarse], LIMIT)], axis=1)
    index = np.tile(np.arange(labels), (len(posterior), 1))
    return np.concatenate(
        [np.stack(by_label, axis=2), np.repeat(by_clip[:, None], labels, axis=1), index[:, :, None]], axis=2
    )


def _group_votes(positive: np.ndarray, coarse: int, group: np.ndarray) -> np.ndarray:
    """Return, for each label, the positive votes on its group's fine labels [shape=(clips, labels)]."""
    sums = np.stack([positive[:, coarse:][:, group[coarse:] == g].sum(axis=1) for g in range(coarse)], axis=1)
    return sums[:, group]


def _fit_predict(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, settings: VerifiedConfig) -> np.ndarray:
    """Train trees on clips (x, y) and return the probabilities of others [shape=(clips, labels)].

    `y` is 1 for present, 0 for absent and -1 for not asked; the latter are no examples.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    asked = y != -1
    x, y = x[asked], y[asked] == 1
    total = np.zeros(x_new.shape[:2])
    if not y.any():  # perhaps without any example, which the trees refuse
        return total
    for number in range(settings.models):
        model = HistGradientBoostingClassifier(
            learning_rate=settings.learning_rate,
            max_iter=settings.max_iter,
            max_leaf_nodes=settings.max_leaf_nodes,
            min_samples_leaf=settings.min_samples_leaf,
            l2_regularization=settings.l2_regularization,
            max_features=settings.max_features,
            categorical_features=[x.shape[1] - 1],
            early_stopping=False,
            random_state=settings.seed + number,
        )
        with threadpool_limits(1, "openmp"):  # several threads are slow when other processes use the cores
            model.fit(x, y)
        total += model.predict_proba(x_new.reshape(-1, x.shape[1]))[:, 1].reshape(total.shape)
    return total / settings.models


RULE = rule_from_estimate(VerifiedConfig, estimate_verified, supervised=True)
