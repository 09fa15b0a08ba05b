"""Estimate the resources of archives that are too large to test; write scale.json and print the table.

    python -m benchmarks.scale [--core-seconds 0.06]

Two quantities are measured: the overhead of a shard, by 100 to 10,000 empty tasks on two Dask workers, and
the bytes written per clip, by a small archive. The core-seconds of a clip are an option (`ms_per_clip` of the
leaderboard). The scheduler is simulated: it assigns one shard after another to the first idle worker.
"""

import argparse
import heapq
import json
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARD = 1000
CLIP_BYTES = 882_044  # ten seconds of 16 bits at 44.1 kHz
# Clips of ten seconds; a sensor of SONYC's records one every ten seconds.
SIZES = {"SONYC-UST v2": 18_510, "a year of one sensor": 3_153_600, "37 sensor-years": 116_683_200}
CORES = (1, 16, 1000)


def empty_task(shard: int) -> int:
    """Do the work of an empty shard."""
    return shard


def measure_overhead(count: int) -> float:
    """Measure the duration of an empty shard in seconds."""
    from ust.util.engines import run_shards

    times = []
    for _ in run_shards(empty_task, list(range(count)), scheduler="local:2"):
        times.append(time.monotonic())
    return (times[-1] - times[0]) / (len(times) - 1)


def simulate(shards: int, workers: int, work: float, dispatch: float) -> float:
    """Return the seconds until all shards are done.

    A shard takes a worker `work` seconds, and the scheduler `dispatch` seconds to assign.
    """
    free = [0.0] * workers
    scheduler = 0.0
    for _ in range(shards):
        start = max(scheduler, heapq.heappop(free))
        scheduler = start + dispatch
        heapq.heappush(free, scheduler + work)
    return max(free)


def measure_row_bytes() -> float:
    """Measure the size of a row of tags in bytes."""
    from benchmarks.archive import make_files, make_system, run
    from ust.archive.folder import TAGS, Archive

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_system(folder)
        make_files(folder / "in", 400, 0)
        run(folder, "in", "out", 2)
        rows = Archive(str(folder / "out")).dataset(TAGS).count_rows()
        return sum(path.stat().st_size for path in (folder / "out" / TAGS).iterdir()) / rows


def main() -> None:
    """Measure, simulate, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--core-seconds", type=float, default=0.06, help="of a clip, default 0.06")
    args = parser.parse_args()

    tasks = {count: measure_overhead(count) for count in (100, 1000, 10_000)}
    row_bytes = measure_row_bytes()
    dispatch = tasks[10_000]
    sizes = []
    for name, clips in SIZES.items():
        shards = -(-clips // SHARD)
        work = args.core_seconds * min(SHARD, clips)
        hours = {cores: simulate(shards, cores, work, dispatch) / 3600 for cores in CORES}
        sizes.append(
            {
                "name": name, "clips": clips, "shards": shards, "terabytes_read": clips * CLIP_BYTES / 1e12,
                "gigabytes_written": clips * row_bytes / 1e9, "hours": hours,
                "gigabytes_per_second_read": {
                    cores: clips * CLIP_BYTES / taken / 3600 / 1e9 for cores, taken in hours.items()
                },
            }
        )  # fmt: skip
    result = {
        "seconds_a_task": tasks,
        "bytes_a_row": row_bytes,
        "core_seconds_a_clip": args.core_seconds,
        "sizes": sizes,
    }
    (ROOT / "benchmarks" / "scale.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        "| clips | shards | read | written | hours on 1 / 16 / 1,000 cores | reading, GB/s, on 1,000 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {s['clips']:,}: {s['name']} | {s['shards']:,} | {s['terabytes_read']:.2g} TB "
        f"| {s['gigabytes_written']:.2g} GB | {' / '.join(f'{h:,.2g}' for h in s['hours'].values())} "
        f"| {s['gigabytes_per_second_read'][1000]:.2g} |"
        for s in sizes
    ]
    print(json.dumps(tasks), f"{row_bytes:.0f} bytes a row", "\n".join(lines), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
