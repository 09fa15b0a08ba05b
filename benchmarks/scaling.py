"""Measure time and memory of the stages as the data set grows; write scaling.json and docs/scaling.svg.

    python -m benchmarks.scaling [--clips 1000 3000 18510]

The stages run one after another by their commands, as in `dvc repro`. Memory is that of a stage's largest
process. The data set repeats 64 synthetic clips with different last samples; four in five are train clips.
The system is `cnn`, which reads log-mels alone. VGGish takes by far the longest, so it is left out beyond
3,000 clips.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
SIZES = (1000, 3000, 18_510)  # the last is that of SONYC-UST v2
Results = dict[int, dict[str, dict[str, float]]]  # by clips and stage
BASE = {"train": 51, "validate": 13}
REAL = {"SONYC-UST v1": 2_794, "SONYC-UST v2": 18_510}
MAX_VGGISH_CLIPS = 3000
SYSTEM, CHECKPOINT = "cnn", "cnn"
RULES = ("majority", "any", "fraction", "dawid_skene", "pooled")
TAXONOMY = "data/raw/dcase-ust-taxonomy.yaml"
RAW = f"data/raw/annotations.csv {TAXONOMY}"
LABELS, PREDICTIONS = "data/labels/majority.csv", f"data/predictions/{CHECKPOINT}.csv"
EXTRACT = "stages.extract {0} data/raw/audio data/augmented data/features/{0}.h5"
STAGES = {
    "labels": f"stages.aggregate_labels majority {RAW} {LABELS}",
    "label rules": f"stages.label_quality {RAW} metrics/label_quality.json --details metrics/labels",
    "log-mel": EXTRACT.format("logmel"),
    "VGGish": EXTRACT.format("vggish") + " --network models/pretrained/vggish",
    "reading for training": "benchmarks.scaling --read data/features",
    "an epoch of training": (
        f"stages.train {SYSTEM} data/features data/labels {TAXONOMY} models/{SYSTEM} "
        f"metrics/training/{SYSTEM}.csv"
    ),
    "prediction": (
        f"stages.predict {CHECKPOINT} models data/features {RAW} {PREDICTIONS} "
        f"--train data/predictions/train/{CHECKPOINT}.csv"
    ),
    "evaluation": (
        f"stages.evaluate {PREDICTIONS} {RAW} metrics/{CHECKPOINT}.json "
        f"--details metrics/details/{CHECKPOINT}.json --curves metrics/curves/{CHECKPOINT} "
        f"--model models/{SYSTEM}/coarse --labels {LABELS} "
        f"--train-predictions data/predictions/train/{CHECKPOINT}.csv"
    ),
    "page": (
        "stages.page metrics/page.html --predictions data/predictions "
        "--metrics metrics/details --history metrics/training "
        f"--audio data/raw/audio --labels {LABELS} --doubtful metrics/labels/doubtful.csv "
        f"--annotations data/raw/annotations.csv --taxonomy {TAXONOMY}"
    ),
}
PREPARATION = ("stages.weights vggish models/pretrained/vggish",)  # not measured


def command(words: str, folder: Path) -> dict[str, float]:
    """Run a module in a folder; return its duration and the memory of its largest process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "UST_LOG": "quiet", "CI": "true"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-P", "-m", *words.split()], cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{words}: failed in {folder}")
    return {"seconds": seconds, "peak_mib": usage.ru_maxrss / 2**10}


def settings() -> dict[str, Any]:
    """Return params.yaml with one system, which trains for one epoch from disk, and five label rules."""
    from ust.util.documents import read_yaml

    params = read_yaml(ROOT / "params.yaml")
    params["train"] |= {"max_epochs": 1, "cache_gib": 0.0}
    params["systems"] = {SYSTEM: params["systems"][SYSTEM] | {"max_epochs": None}}
    params["hierarchies"] = {}
    params["checkpoints"] = {CHECKPOINT: params["checkpoints"][CHECKPOINT]}
    params["submission"] = CHECKPOINT
    params["label_quality"]["rules"] = {name: params["label_quality"]["rules"][name] for name in RULES}
    return params


def build(folder: Path, clips: int) -> None:
    """Create a project with a number of clips."""
    import pandas as pd

    from ust.datasets.synthetic.city import build_city
    from ust.util.documents import write_yaml

    city, raw = folder / "city", folder / "data" / "raw"
    build_city(city, seed=2019, clips=BASE)
    raw.mkdir(parents=True)
    (folder / "data" / "augmented").mkdir()
    (city / "dcase-ust-taxonomy.yaml").rename(raw / "dcase-ust-taxonomy.yaml")
    rows = dict(list(pd.read_csv(city / "annotations.csv").groupby("audio_filename")))
    tables = []
    validate = clips * BASE["validate"] // sum(BASE.values())
    for split, count in {"train": clips - validate, "validate": validate}.items():
        audio = raw / "audio" / split
        audio.mkdir(parents=True)
        sources = sorted((city / "audio" / split).iterdir())
        for index in range(count):
            source = sources[index % len(sources)]
            name = f"{source.name[:3]}{index:06}.wav"
            content = source.read_bytes()  # with other last samples, as equal files would count as one clip
            (audio / name).write_bytes(content[:-4] + index.to_bytes(4, "little"))
            tables.append(rows[source.name].assign(audio_filename=name))
    pd.concat(tables).to_csv(raw / "annotations.csv", index=False)
    write_yaml(folder / "params.yaml", settings())
    for name in ("stages", "ust"):
        (folder / name).symlink_to(ROOT / name)


def measure(clips: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield time and memory of each stage for a number of clips, then the sizes of the feature files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # Another process creates the project: a forked child's peak memory includes that of its parent.
        subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling", "--build", folder, "--clips", str(clips)],
            cwd=ROOT, check=True,
        )  # fmt: skip
        for words in PREPARATION:
            command(words, folder)
        for name, words in STAGES.items():
            if name != "VGGish" or clips <= MAX_VGGISH_CLIPS:
                yield name, command(words, folder)
        for path in sorted((folder / "data" / "features").glob("*.h5")):
            yield path.name, {"bytes": path.stat().st_size}


def read_features(folder: Path) -> None:
    """Read the log-mels of all train clips once, in shuffled batches."""
    from ust.features.store import open_feature_files
    from ust.models.examples import batch_bounds

    with open_feature_files(folder, {"log_mel": "logmel"}) as files:
        (file,) = files.values()
        order = np.random.default_rng(0).permutation(np.flatnonzero(file.split == "train"))
        for start, end in batch_bounds(len(order), 32):
            file[order[start:end]]


def slopes(results: Results) -> dict[str, float]:
    """Return the slope of log time over log clips for each stage; 1 means time in proportion to clips."""
    slope_of = {}
    for stage in STAGES:
        seconds = {clips: stages[stage]["seconds"] for clips, stages in results.items() if stage in stages}
        if len(seconds) > 1:
            slope_of[stage] = float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])
    return slope_of


def table(results: Results) -> str:
    """Format time per clip and memory of each stage as Markdown."""
    heads, slope = [f"{clips:,} clips" for clips in results], slopes(results)
    lines = ["| stage | " + " | ".join(heads) + " | slope |", "| --- " * (len(heads) + 2) + "|"]
    for stage in STAGES:
        cells = [
            f"{1e3 * stages[stage]['seconds'] / clips:.3g} ms, {stages[stage]['peak_mib'] / 1024:.2f} GiB"
            if stage in stages
            else "–"
            for clips, stages in results.items()
        ]
        last = f"{slope[stage]:.2f}" if stage in slope else "–"
        lines.append(f"| {stage} | {' | '.join(cells)} | {last} |")
    return "\n".join(lines)


def real_data(results: Results) -> str:
    """Extrapolate time on two cores and disk space to the real data sets, as Markdown."""
    per_clip = {}
    for clips, measured in results.items():
        per_clip |= {stage: measured[stage]["seconds"] / clips for stage in STAGES if stage in measured}
        files = [name for name in ("logmel.h5", "vggish.h5") if name in measured]
        per_clip |= {name: measured[name]["bytes"] / clips for name in files}
    features = per_clip["log-mel"] + per_clip["VGGish"]
    size = per_clip["logmel.h5"] + per_clip["vggish.h5"]
    lines = [
        "| data set | clips | features, hours on 2 cores | an epoch, minutes | predictions, minutes | disk |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, clips in REAL.items():
        epoch, predictions = (
            f"{clips * per_clip[stage] / 60:.1f}" for stage in ("an epoch of training", "prediction")
        )
        lines.append(
            f"| {name} | {clips:,} | {clips * features / 3600:.2f} | {epoch} | {predictions} "
            f"| {clips * size / 1e9:.2f} GB |"
        )
    return "\n".join(lines)


def chart(results: Results, path: Path) -> None:
    """Plot time per clip against the number of clips."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ust"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    clips = list(results)
    for stage in STAGES:
        known = [n for n in clips if stage in results[n]]
        axes.loglog(known, [1e3 * results[n][stage]["seconds"] / n for n in known], marker="o", label=stage)
    axes.set(
        xlabel="clips", ylabel="milliseconds a clip", xticks=clips, xticklabels=[f"{n:,}" for n in clips]
    )
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure every size, write the results and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", type=int, nargs="+", default=SIZES)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read_features(args.read)
        return
    if args.build:
        build(args.build, *args.clips)
        return
    results: Results = {}
    for clips in args.clips:
        results[clips] = {}
        for stage, figures in measure(clips):
            results[clips][stage] = figures
            print(f"{clips:,} clips, {stage}: {figures}", flush=True)  # noqa: T201
        content = {
            "results": {str(clips): stages for clips, stages in results.items()},
            "slopes": slopes(results),
        }
        (ROOT / "benchmarks" / "scaling.json").write_text(json.dumps(content, indent=2) + "\n")
    chart(results, ROOT / "docs" / "scaling.svg")
    print(table(results))  # noqa: T201
    if any("VGGish" in stages for stages in results.values()):
        print(f"\n{real_data(results)}")  # noqa: T201


if __name__ == "__main__":
    main()
