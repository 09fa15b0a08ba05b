"""Real-time factor of tagging a long recording on one core, and the latency of live tagging.

    python -m benchmarks.tagging SYSTEM … [--checkpoint FILE] [--minutes 30]

SYSTEM is "audioset" or the folder of a trained system. The recording is noise at 44.1 kHz, tagged in windows
of ten seconds every five seconds, as `ust tag` does by default. The real-time factor is the time that tagging
takes relative to the duration of the recording. The latency is the time from the end of a window to its
probabilities, as in `ust listen`. Both are medians.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import soundfile as sf

from ust.tagging.tagger import Tagger
from ust.util.device import prepare_device

RATE = 44_100
REPEATS = 3
WINDOWS = 40


def write_noise(path: Path, minutes: float) -> None:
    """Write noise whose level changes every ten seconds, as 16-bit FLAC."""
    rng = np.random.default_rng(2019)
    with sf.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(6 * minutes)):
            file.write(rng.uniform(0.02, 0.3) * rng.standard_normal(10 * RATE))


def real_time_factor(tagger: Tagger, path: Path, seconds: float) -> float:
    """Return the time of tagging a recording, relative to its duration."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in tagger.tag(path):
            pass
        times.append(time.perf_counter() - started)
    return median(times) / seconds


def latency(tagger: Tagger) -> float:
    """Return the seconds from the end of a window to its probabilities."""
    samples = 0.1 * np.random.default_rng(2019).standard_normal(10 * RATE).astype(np.float32)
    times = []
    for _ in range(WINDOWS):
        started = time.perf_counter()
        tagger.predict(samples, RATE)
        times.append(time.perf_counter() - started)
    return median(times)


def main() -> None:
    """Print a row of a Markdown table for each system."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="+", metavar="SYSTEM")
    parser.add_argument("--checkpoint", type=Path, help="published weights, for audioset")
    parser.add_argument("--minutes", type=float, default=30.0)
    args = parser.parse_args()
    device = prepare_device(device="cpu", threads=1)
    print("| system | real-time factor | latency |\n| --- | --- | --- |")  # noqa: T201
    with TemporaryDirectory() as folder:
        path = Path(folder) / "noise.flac"
        write_noise(path, args.minutes)
        for system in args.systems:
            tagger = Tagger.load(
                system, checkpoint=args.checkpoint if system == "audioset" else None, device=device
            )
            factor = real_time_factor(tagger, path, 60 * args.minutes)
            print(f"| `{system}` | {factor:.4f} | {1000 * latency(tagger):.0f} ms |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
