"""Time the official metrics against the plain loop over thresholds, and the bootstrap.

    python benchmarks/bench_metrics.py [--clips 443] [--rounds 3]

Predictions have six random decimals: with hardly any ties, as many thresholds as there can be. The loop (the
tests' oracle) goes from threshold to threshold and counts with NumPy at each.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import oracle  # noqa: E402

from ust.city.build import write_taxonomy  # noqa: E402
from ust.evaluation import Evaluation  # noqa: E402
from ust.taxonomy import read_taxonomy  # noqa: E402


def seconds(function) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=443)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        write_taxonomy(Path(folder) / "taxonomy.yaml")
        taxonomy = read_taxonomy(Path(folder) / "taxonomy.yaml")
    rng = np.random.default_rng(2019)
    shape = (args.clips, len(taxonomy.labels))
    truth = pd.DataFrame((rng.random(shape) < 0.08).astype(int), columns=list(taxonomy.labels))
    predicted = pd.DataFrame(rng.random(shape).round(6), columns=list(taxonomy.labels))
    evaluation = Evaluation(truth.assign(sensor_id="1"), predicted, taxonomy)

    def ours() -> None:
        for level in ("fine", "coarse"):
            evaluation.scores(level)

    def loop() -> None:
        for level in ("fine", "coarse"):
            oracle.score(evaluation.truth[level], evaluation.predicted[level], taxonomy, level)

    ours()
    times = [(seconds(ours), seconds(loop)) for _ in range(args.rounds)]
    fast, slow = median(a for a, _ in times), median(b for _, b in times)
    ratio = median(b / a for a, b in times)
    print(f"{args.clips} clips, both levels, medians of {args.rounds} alternating rounds")  # noqa: T201
    print(f"ours {fast * 1e3:.1f} ms, loop over thresholds {slow:.2f} s, ratio {ratio:.0f}")  # noqa: T201

    rows = rng.integers(0, args.clips, (args.resamples, args.clips))
    total = seconds(lambda: [evaluation.figures(row) for row in rows])
    print(f"bootstrap, {args.resamples} resamples of both levels: {total:.1f} s")  # noqa: T201


if __name__ == "__main__":
    main()
