"""Time and memory per clip as the data set grows; writes scaling.json, and scaling.svg into docs/.

    python -m benchmarks.scaling [--clips 100 300 1000 3000]

Each size runs in a process of its own. The clips are 64 synthetic ones, again and again, each with other
last samples.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.timing import seconds
from ust.compute.device import prepare

ROOT = Path(__file__).parent.parent
STEPS = ("extraction", "training epoch", "evaluation")


def run_one(clips: int) -> dict[str, float]:
    """Seconds per clip of each step, and the peak of resident memory in MiB."""
    import pandas as pd

    from benchmarks.pairs import bench, network
    from ust.compute.accelerate import accelerate
    from ust.features.rows import Row
    from ust.models.examples import Examples
    from ust.scores.evaluation import Evaluation
    from ust.training.section import read_system
    from ust.training.trainer import Task, Trainer

    device = prepare(device="cpu", threads=2)
    rng = np.random.default_rng(0)
    with bench(device) as made:
        on_batch = made.vggish()
        audio = made.folder / "many" / "train"
        audio.mkdir(parents=True)
        rows = []
        for index in range(clips):
            source = made.rows[index % len(made.rows)].path
            path = audio / f"{index:05}.wav"
            with path.open("wb") as file:  # of its own content, or it would be taken for the same clip
                file.write(source.read_bytes()[:-4] + index.to_bytes(4, "little"))
            rows.append(Row(path.name, "original", "train", path))
        found = {"clips": clips, "extraction": seconds(lambda: made.extract(rows, on_batch)) / clips}

        recipe = read_system(ROOT / "params.yaml", "cnn_vggish").model_copy(update={"cache_gib": 0.0})
        targets = (rng.random((clips, 37)) < 0.1).astype(np.float32)
        made.features = [made.folder / "logmel.h5", made.folder / "vggish.h5"]
        examples = Examples(made.opened(), np.arange(clips), targets)
        task = Task(accelerate(network("concat")), examples, examples, device, "scaling", lambda _: None)
        trainer = Trainer(task, recipe)
        found["training epoch"] = seconds(lambda: trainer.epoch(1)) / clips

        labels = list(made.taxonomy.labels)
        truth = pd.DataFrame((rng.random((clips, 37)) < 0.1).astype(int), columns=labels)
        predicted = pd.DataFrame(rng.random((clips, 37)).round(6), columns=labels)
        both = Evaluation.of(truth.assign(sensor_id="1"), predicted, made.taxonomy)
        both.headlines()
        found["evaluation"] = min(seconds(both.headlines) for _ in range(5)) / clips
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return found


def slopes(results: list[dict[str, float]]) -> dict[str, float]:
    """The slope of log time over log clips of each step; 1 is time in proportion to clips."""
    clips = np.log([r["clips"] for r in results])
    return {
        step: float(np.polyfit(clips, np.log([r[step] * r["clips"] for r in results]), 1)[0])
        for step in STEPS
    }


def chart(results: list[dict[str, float]], path: Path) -> None:
    """Time per clip over the number of clips."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ust"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    clips = [r["clips"] for r in results]
    for step in STEPS:
        axes.loglog(clips, [r[step] * 1e3 for r in results], marker="o", label=step)
    axes.set(
        xlabel="clips", ylabel="milliseconds a clip", xticks=clips, xticklabels=[f"{n:,}" for n in clips]
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_one(args.one)))  # noqa: T201
        return
    results = []
    for clips in args.clips:
        command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(clips)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(results[-1], flush=True)  # noqa: T201
    found = {"results": results, "slopes": slopes(results)}
    (ROOT / "benchmarks" / "scaling.json").write_text(json.dumps(found, indent=2) + "\n")
    chart(results, ROOT / "docs" / "scaling.svg")
    print(found["slopes"])  # noqa: T201


if __name__ == "__main__":
    main()
