"""Tag an archive of short files by a Dask cluster, workers being killed; writes archive.json.

    python -m benchmarks.archive [--files 20000] [--few 2000]

A scheduler, two workers and the client are processes of this machine. First, `few` files are tagged with one
worker and with two, to measure the efficiency. Then all files are tagged, some of which are corrupt, while a
worker is killed twice. Peak memory is the highest resident set of each process (VmHWM of Linux).
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
RATE, SECONDS = 8000, 0.5
CORRUPT, SHARD, KILLS = 50, 100, 2
SYSTEM = {"sample_rate": RATE, "n_fft": 512, "hop_length": 128, "n_mels": 108, "versions": "any"}


def make_system(folder: Path) -> None:
    """Save an untrained, cheap network of log-mels, so that the overhead of the archive dominates."""
    import torch

    from ust.annotations.taxonomy import read_taxonomy
    from ust.datasets.synthetic.city import write_taxonomy
    from ust.models.checkpoints import SavedNetwork, save_network
    from ust.models.cnn import CNN

    torch.manual_seed(0)
    write_taxonomy(folder / "taxonomy.yaml")
    taxonomy = read_taxonomy(folder / "taxonomy.yaml")
    config = CNN.Config(conv_dropout=0.5, head_dropout=0.2)
    metadata = {"taxonomy": asdict(taxonomy), "inputs": {"logmel": "logmel"}, "features": {"logmel": SYSTEM}}
    save_network(
        folder / "models" / "cnn",
        SavedNetwork(CNN(config, 37), "cnn", config, list(taxonomy.labels), metadata),
    )


def make_files(folder: Path, count: int, corrupt: int) -> None:
    """Write short recordings; the corrupt ones among them are empty, truncated, or not audio."""
    import numpy as np
    import soundfile as sf

    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE * 60)
    every = count // corrupt if corrupt else count + 1
    for index in range(count):
        path = folder / f"sensor{index % 7}" / f"{index:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = index * 37 % (RATE * 59)
        sf.write(path, noise[start : start + round(SECONDS * RATE)], RATE)
        if index % every == every - 1:
            content = path.read_bytes()
            path.write_bytes((b"", content[:300], b"no sound")[index // every % 3])


def start(*words: str, folder: Path) -> subprocess.Popen:
    """Start a Python module as a process in a folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env=environment, stdout=log, stderr=log
        )


def peak_mib(process: subprocess.Popen) -> float:
    """Return the highest resident memory of a process so far, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def run(folder: Path, source: str, out: str, workers: int, kills: int = 0) -> dict[str, object]:
    """Tag an archive; return the duration, the number of kills and the peak memory of each process."""
    from ust.archive.folder import Archive

    file = folder / f"{out}.json"
    scheduler = start(
        "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(file), folder=folder,
    )  # fmt: skip
    while not file.exists():
        time.sleep(0.1)
    address = json.loads(file.read_text())["address"]

    def worker() -> subprocess.Popen:
        words = ("dask", "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        return start(*words, folder=folder)

    running = [worker() for _ in range(workers)]
    words = ("--system", "cnn", "--shard-clips", str(SHARD), "--scheduler", address)
    client = start("ust", "tag-archive", source, out, *words, folder=folder)
    peaks = {"client": 0.0, "scheduler": 0.0, "worker": 0.0}
    killed, first, shards = 0, 0.0, 0
    try:
        while client.poll() is None:
            try:
                peaks["client"] = max(peaks["client"], peak_mib(client))
                peaks["scheduler"] = max(peaks["scheduler"], peak_mib(scheduler))
                peaks["worker"] = max(peaks["worker"], *map(peak_mib, running))
            except (OSError, TypeError):
                pass  # a process has just ended
            done = (
                len(Archive(str(folder / out)).finished_shards()) if (folder / out / "tags").is_dir() else 0
            )
            if done and not first:
                first, before = time.monotonic(), done
            shards = shards or (Archive(str(folder / out)).shard_count() if done else 0)
            if killed < kills and shards and done >= shards * (killed + 1) // (kills + 1):
                running.pop(0).send_signal(signal.SIGKILL)
                running.append(worker())
                killed += 1
            time.sleep(0.05)
        # The time before the first shard is left out: it is that of loading the model, once per worker.
        seconds = (time.monotonic() - first) * shards / (shards - before)
    finally:
        for process in (client, *running, scheduler):
            process.kill()
            process.wait()
    output = (folder / "log.txt").read_text()
    # With corrupt recordings, the command ends with an error although it has tagged the others.
    if client.returncode and "could not be tagged; " not in output:
        raise SystemExit(output[-2000:])
    return {"seconds": seconds, "kills": killed, "peak_mib": {key: round(v) for key, v in peaks.items()}}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.archive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--few", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "archive.json")
    args = parser.parse_args()

    from ust.archive.folder import FAILURES, TAGS, Archive

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_system(folder)
        make_files(folder / "few", args.few, 0)
        make_files(folder / "many", args.files, CORRUPT)
        one, two = run(folder, "few", "one", 1), run(folder, "few", "two", 2)
        full = run(folder, "many", "all", 2, kills=KILLS)
        archive = Archive(str(folder / "all"))
        tags = archive.dataset(TAGS).to_table(columns=["path", "start"]).to_pandas()
        failures = archive.dataset(FAILURES).to_table().to_pandas()
        same = all(
            (folder / "one" / TAGS / path.name).read_bytes() == path.read_bytes()
            for path in (folder / "two" / TAGS).iterdir()
        )
    result = {
        "files": args.files,
        "corrupt": CORRUPT,
        "rows": len(tags),
        "rows_twice": int(tags.duplicated().sum()),
        "failures": len(failures),
        "reasons": failures["reason"].str.replace(r"\d+", "N", regex=True).value_counts().to_dict(),
        "kills": full["kills"],
        "same_bytes_with_one_worker_and_two": same,
        "files_per_second": round(args.files / full["seconds"], 1),
        "efficiency": round(one["seconds"] / two["seconds"] / 2, 3),
        "peak_mib": {str(args.few): two["peak_mib"], str(args.files): full["peak_mib"]},
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
