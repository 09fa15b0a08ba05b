"""Metrics against counting by definition."""

import sys

import numpy as np
import pandas as pd

from benchmarks.inputs import ROOT, Bench
from benchmarks.timing import Pair
from ust.evaluation.bootstrap import draw_resamples
from ust.evaluation.evaluation import Evaluation

sys.path.append(str(ROOT / "tests"))
import oracle


def scored(bench: Bench) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ground truth and predictions of 443 clips, probabilities of six decimals."""
    rng = np.random.default_rng(2019)
    labels = list(bench.taxonomy.labels)
    truth = pd.DataFrame((rng.random((443, len(labels))) < 0.08).astype(int), columns=labels)
    predicted = pd.DataFrame(rng.random(truth.shape).round(6), columns=labels)
    names = [f"{index:02}_{index:06}.wav" for index in range(443)]
    return truth.assign(sensor_id="1", audio_filename=names), predicted.assign(audio_filename=names)


def bootstrap(bench: Bench) -> Pair:
    """A thousand resamples of the clips, both levels."""
    truth, predicted = scored(bench)
    both = Evaluation.from_tables(truth, predicted, bench.taxonomy)
    draws = list(draw_resamples(both.sensors, unit="clips", count=1000, seed=1))

    def theirs() -> None:
        for draw in draws:
            alone = Evaluation.from_tables(truth.iloc[draw], predicted.iloc[draw], bench.taxonomy)
            for level in ("fine", "coarse"):
                alone.scores(level)

    return Pair(
        "bootstrap", "resample by resample, each scored as a file of its clips",
        lambda: [both.bootstrap_metrics(draws, level) for level in ("fine", "coarse")], theirs,
        "bootstrap of 1,000", rounds=3,
    )  # fmt: skip


def evaluation_official(bench: Bench) -> Pair:
    """Both levels of 443 clips, reading of the predictions included."""
    truth, predicted = scored(bench)
    path = bench.folder / "predictions.csv"
    predicted.to_csv(path, index=False)

    def theirs() -> None:
        table = pd.read_csv(path).set_index("audio_filename").loc[truth["audio_filename"]]
        for level, labels in (("fine", bench.taxonomy.fine), ("coarse", bench.taxonomy.coarse)):
            names = list(labels)
            oracle.score(truth[names].to_numpy(), table[names].to_numpy(), bench.taxonomy, level)

    def ours() -> None:
        both = Evaluation.read(path, truth, bench.taxonomy)
        for level in ("fine", "coarse"):
            both.scores(level)

    return Pair(
        "evaluation_official", "pandas, loop over thresholds, counting with NumPy at each", ours, theirs,
        "evaluation", rounds=5,
    )  # fmt: skip


def evaluation(bench: Bench) -> Pair:
    """Both levels of 443 clips."""
    both = Evaluation.from_tables(*scored(bench), bench.taxonomy)
    return Pair(
        "evaluation", "loop over thresholds, counting with NumPy at each",
        lambda: [both.scores(level) for level in ("fine", "coarse")],
        lambda: [
            oracle.score(both.truth[level], both.predicted[level], bench.taxonomy, level)
            for level in ("fine", "coarse")
        ],
        "evaluation", rounds=5,
    )  # fmt: skip
