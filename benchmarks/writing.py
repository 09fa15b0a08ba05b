"""Time what it takes to write a small file atomically, in folders that hold ever more files.

    python -m benchmarks.writing [--files 1000 20000] [--writes 500]

Extraction and archives write a file per clip or shard into one folder, so this must not depend on how many
files are there.
"""

import argparse
import tempfile
import time
from pathlib import Path

from ust.util.files import atomic_write

CONTENT = bytes(4096)


def milliseconds_per_write(folder: Path, writes: int) -> float:
    """The mean time of writing new files into a folder, in milliseconds."""
    start = time.perf_counter()
    for index in range(writes):
        with atomic_write(folder / f"new{index:06}.npy") as partial:
            partial.write_bytes(CONTENT)
    return 1e3 * (time.perf_counter() - start) / writes


def main() -> None:
    """Print the mean time per write for each number of files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.writing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 20_000])
    parser.add_argument("--writes", type=int, default=500)
    args = parser.parse_args()
    for files in args.files:
        with tempfile.TemporaryDirectory() as scratch:
            for index in range(files):
                Path(scratch, f"old{index:06}.npy").write_bytes(CONTENT)
            found = milliseconds_per_write(Path(scratch), args.writes)
        print(f"{files:,} files in the folder: {found:.2f} ms per write")  # noqa: T201


if __name__ == "__main__":
    main()
