"""Time every pair and write results.json and results.md beside this file.

    python -m benchmarks [NAME ...] [--device cuda]

Each pair runs in a process of its own, in alternating rounds after a warm-up.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.timing import matrix_gflops, measure, memory_gbs
from ust.util.device import prepare_device

HERE = Path(__file__).parent
THREADS = 2


def run_one(name: str, device: str) -> None:
    """Measure a pair and print its result as JSON."""
    from benchmarks.inputs import bench
    from benchmarks.pairs import PAIRS, bytes_per_clip

    prepared = prepare_device(device=device, threads=THREADS)
    gflops = matrix_gflops(prepared)
    with bench(prepared) as inputs:
        result = measure(PAIRS[name](inputs), gflops)
        if name == "loading":
            result["bytes_per_clip"] = bytes_per_clip(inputs)
    print(json.dumps(result))  # noqa: T201


def table(results: list[dict], machine: dict) -> str:
    """Format the results as Markdown."""
    lines = [
        f"On a {machine['name']} with {machine['threads']} threads ({machine['gflops']:.0f} GFLOP/s",
        f"in a float32 matrix product, {machine['memory_gbs']:.0f} GB/s copying); medians, by `make bench`.",
        "",
        "| step | ours | peer | ratio | of the matrix product's speed | memory, ours / peer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        fraction = "" if r["limit_fraction"] is None else f"{r['limit_fraction']:.0%}"
        lines.append(
            f"| {r['name']}, a {r['unit']} | {_seconds(r['ours_s'])} | {_seconds(r['peer_s'])}: {r['peer']} "
            f"| {r['ratio']:.2g} | {fraction} | {r['ours_mib']} / {r['peer_mib']} MiB |"
        )
    return "\n".join(lines) + "\n"


def _seconds(value: float) -> str:
    """Format a duration in seconds or milliseconds."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def main() -> None:
    """Run the named pairs, by default all."""
    from benchmarks.pairs import PAIRS

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PAIRS)}; default: all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return run_one(args.one, args.device)
    unknown = set(args.names) - set(PAIRS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")

    device = prepare_device(device=args.device, threads=THREADS)
    machine = {
        "name": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "threads": THREADS,
        "gflops": matrix_gflops(device),
        "memory_gbs": memory_gbs(device),
    }
    results = []
    for name in args.names or PAIRS:
        command = [sys.executable, "-m", "benchmarks", "--one", name, "--device", args.device]
        done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        r = results[-1]
        times = f"{_seconds(r['ours_s']):>9}  {_seconds(r['peer_s']):>9}  ×{r['ratio']:.2f}"
        print(f"{name:30} {times}", flush=True)  # noqa: T201
    if not args.names:
        suffix = "" if device.type == "cpu" else "-cuda"
        (HERE / f"results{suffix}.json").write_text(json.dumps(results, indent=2) + "\n")
        (HERE / f"results{suffix}.md").write_text(table(results, machine))
    print(table(results, machine))  # noqa: T201
    return None


if __name__ == "__main__":
    main()
