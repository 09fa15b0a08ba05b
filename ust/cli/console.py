"""Command-line infrastructure: options, logging, progress bars, and errors without tracebacks."""

import argparse
import codecs
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from ust.util.errors import UserError
from ust.util.names import printable

T = TypeVar("T")
# The extra of pyproject.toml that has a module's package.
EXTRAS = {
    "crowdkit": "crowd", "dask": "archive", "dask_jobqueue": "cluster", "distributed": "archive",
    "duckdb": "archive", "flask": "own", "fsspec": "archive", "onnx": "onnx", "onnxruntime": "onnx",
    "onnxscript": "onnx", "pyarrow": "archive", "sounddevice": "microphone", "tensorflow": "tensorflow",
    "werkzeug": "own",
}  # fmt: skip
log = logging.getLogger("ust")
LEVELS = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}
_started = time.monotonic()


class _LineStream:
    """Text stream for tqdm that writes each refresh of the bar as a line of its own, for logs."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
    """Iterate with a progress bar; without a terminal or in CI, log a line every 15 seconds instead."""
    from tqdm import tqdm

    live = sys.stderr.isatty() and not os.environ.get("CI")
    lines = {"delay": 10, "mininterval": 15, "maxinterval": 60, "ascii": True, "ncols": 80}
    return tqdm(
        items,
        total=total,
        desc=description,
        unit=unit,
        file=sys.stderr if live else _LineStream(),
        disable=total == 0 or not log.isEnabledFor(logging.INFO),
        **({"dynamic_ncols": True} if live else lines),
    )


def parse_args(
    parser: argparse.ArgumentParser,
    *,
    writes: Sequence[str] = (),
    replaces: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Parse the command line, with the options that all commands share: -v and -q.

    The environment variable UST_LOG (quiet or verbose) has the same effect, for stages run by `dvc repro`.
    """

    def error(message: str) -> None:
        raise UserError(f"{message}; {parser.prog} --help lists the options")

    parser.error = error
    verbosity = parser.add_mutually_exclusive_group()
    for name, text in (("verbose", "log details and tracebacks"), ("quiet", "log only warnings and errors")):
        verbosity.add_argument(
            f"-{name[0]}", f"--{name}", dest="log", action="store_const", const=name, help=text
        )
    if replaces:
        parser.add_argument(
            "--force", action="store_true", help=f"replace {', '.join(replaces)} even if it holds other files"
        )
    args = parser.parse_args(argv)
    level = args.log or os.environ.get("UST_LOG") or "normal"
    if level not in LEVELS:
        raise UserError(f"UST_LOG is {level!r}, should be one of {', '.join(LEVELS)}")
    log.setLevel(LEVELS[level])
    _refuse_overwriting(args, writes, replaces)
    return args


def _refuse_overwriting(args: argparse.Namespace, writes: Sequence[str], replaces: Sequence[str]) -> None:
    """Refuse outputs that are also inputs, contain inputs, or are named twice."""
    paths = [
        (name, path)
        for name, values in vars(args).items()
        for path in (values if isinstance(values, list) else [values])
        if isinstance(path, Path)
    ]
    for name, out in paths:
        place = out.resolve()
        if name not in (*writes, *replaces) or Path.cwd().is_relative_to(place):
            continue  # `atomic_folder` refuses the working folder and its parents with a better message
        for other, path in paths:
            if other != name and path.resolve() == place:
                raise UserError(f"{out}: is given as {name} and as {other}, should be two different paths")
            if name in replaces and other not in (name, *writes) and place in path.resolve().parents:
                raise UserError(f"{out}: {name} would be replaced, but {other} lies in it; name another")


def check_suffix(option: str, path: Path | None, suffix: str) -> None:
    """Check that an output file, if the option gives one, has the suffix of its format."""
    if path is not None and path.suffix.lower() != suffix:
        raise UserError(f"{option} is {path}, should end with {suffix}")


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Parse the option --shard into the shard's index, counted from 0, and the number of shards.

    Examples
    --------
    >>> parse_shard("3/16"), parse_shard(None)
    ((2, 16), None)
    """
    if text is None:
        return None
    first, slash, count = text.partition("/")
    if not (slash and first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise UserError(f"--shard is {text!r}, should be I/N, such as 3/16")
    return int(first) - 1, int(count)


def log_done(message: str, *values: object) -> None:
    """Log the last line of a command: its outputs, their number, and the elapsed time."""
    seconds = time.monotonic() - _started
    minutes, remainder = divmod(round(seconds), 60)
    elapsed = f"{minutes} min {remainder} s" if minutes else f"{seconds:.1f} s"
    log.info(message + ", %s", *values, elapsed)


def escape_output() -> None:
    """Escape characters that the encoding of standard output or error lacks, instead of failing."""
    codecs.register_error("ust", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ust")


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Replace characters a terminal lacks: bars by #, ellipses by dots, letters by escapes such as \xdf."""
    text = error.object[error.start : error.end]
    replacements = {"…": "...", "✓": "*", **dict.fromkeys("▏▎▍▌▋▊▉█▁▂▃▄▅▆▇", "#")}
    escaped = "".join(replacements.get(character) or printable(character) for character in text)
    return escaped.encode("ascii", "backslashreplace").decode(), error.end


def missing_package(module: str) -> str:
    """Return how to install the package of a module: the extra that has it, or the project's environment."""
    name = module.split(".")[0]
    problem = f"{sys.executable} does not have the package {name}"
    extra = EXTRAS.get(name)
    if extra:
        return f'{problem}; install it by pip install "urban-sound-tagging[{extra}]"'
    return (
        f"{problem}. Activate the project's environment (make .venv && source .venv/bin/activate), or "
        "install the package by pip install urban-sound-tagging, then run the command again."
    )


def run_command(main: Callable[[], None], *, kept: str | None = None) -> None:
    """Run the main function of a command; report errors the user can fix as one message and exit code 1.

    `kept` describes the work that an interrupted run leaves for the next one, if there is any.
    """
    escape_output()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    for name in ("numba", "h5py", "absl", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # joblib warns about workers that stop after an error, although the error itself is reported.
    warnings.filterwarnings("ignore", message=".*tasks have been successfully executed")
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    try:
        main()
    except UserError as error:
        log.debug("", exc_info=True)
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("ust", "stages"):
            raise
        sys.exit(f"error: {missing_package(error.name)}")
    except OSError as error:
        log.debug("", exc_info=True)
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}")
    except KeyboardInterrupt:
        log.error("interrupted%s", f"; run the same command to continue: {kept}" if kept else "")
        sys.exit(130)
    sys.exit(0)
