"""Tag live sound from standard input (raw samples) or a microphone.

arecord -q -f S16_LE -r 44100 -t raw | ust listen

Writes a line of CSV for each label that reaches the threshold, as soon as a window is complete.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ust.cli.console import log_done, parse_args
from ust.cli.tag import add_system_options, add_threshold_option, add_window_options, load_tagger
from ust.util.errors import UserError, plural

if TYPE_CHECKING:
    import numpy as np

FORMATS = {"s16": ("<i2", 2**15), "s32": ("<i4", 2**31), "f32": ("<f4", 1)}
BLOCK_SECONDS = 0.5


def main(prog: str = "ust listen", argv: Sequence[str] | None = None) -> None:
    """Print the tags of each window until the input ends."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_system_options(parser)
    add = parser.add_argument
    add("--rate", type=int, default=44_100, help="sample rate in Hz, default 44100")
    add("--channels", type=int, default=1, help="number of channels, default 1")
    add("--format", choices=FORMATS, default="s16", help="sample format, little-endian, default s16")
    add_window_options(parser, hop=5.0)
    add_threshold_option(parser, "to print")
    add("--microphone", action="store_true",
        help="record from the default microphone (needs the package sounddevice)")  # fmt: skip
    args = parse_args(parser, argv=argv)
    for name, low, high in (("rate", 1000, 768_000), ("channels", 1, 64)):
        value = getattr(args, name)
        if not low <= value <= high:
            parser.error(f"--{name} is {value}, should be {low} to {high}")

    _, tagger, _ = load_tagger(args)
    blocks = _microphone(args) if args.microphone else _standard_input(args)
    labels, thresholds = tagger.taxonomy.names, tagger.thresholds
    if args.threshold is not None:
        thresholds = [args.threshold] * len(labels)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["start", "end", "label", "probability"])
    count = 0
    for window in tagger.stream(blocks, args.rate, window=args.window, hop=args.hop):
        for label, probability, threshold in zip(labels, window.probabilities, thresholds, strict=True):
            if probability >= threshold:
                writer.writerow([f"{window.start:.3f}", f"{window.end:.3f}", label, f"{probability:.6f}"])
        sys.stdout.flush()
        count += 1
    if not count:
        raise UserError("no samples arrived; standard input should be raw samples without a header")
    log_done("%s", plural(count, "window"))


def _standard_input(args: argparse.Namespace) -> "Iterator[np.ndarray]":
    """Read blocks of raw samples from standard input; an incomplete sample at the end is dropped."""
    import numpy as np

    kind, full = FORMATS[args.format]
    frame = np.dtype(kind).itemsize * args.channels
    size = frame * max(1, round(BLOCK_SECONDS * args.rate))
    pending = b""
    while more := sys.stdin.buffer.read1(size):
        pending += more
        whole = len(pending) // frame * frame
        samples = np.frombuffer(pending[:whole], kind).astype(np.float32) / full
        pending = pending[whole:]
        yield samples.reshape(-1, args.channels)


def _microphone(args: argparse.Namespace) -> "Iterator[np.ndarray]":
    """Record blocks from the default microphone, without end."""
    import sounddevice

    with sounddevice.InputStream(args.rate, channels=args.channels, dtype="float32") as stream:
        while True:
            samples, _ = stream.read(round(BLOCK_SECONDS * args.rate))
            yield samples
