"""What a command says on the terminal: log lines, progress bars, and errors without tracebacks."""

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
log = logging.getLogger("ust")
LEVELS = {"quiet": logging.WARNING, "normal": logging.INFO, "verbose": logging.DEBUG}
_started = time.monotonic()


class _Lines:
    """A text stream for tqdm that makes a line of each of its redrawings, for logs."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
    """Iterate with a progress bar; in CI or a pipe, with a line now and then instead."""
    from tqdm import tqdm

    live = sys.stderr.isatty() and not os.environ.get("CI")
    logged = {"delay": 10, "mininterval": 15, "maxinterval": 60, "ascii": True, "ncols": 80}
    return tqdm(
        items,
        total=total,
        desc=description,
        unit=unit,
        file=sys.stderr if live else _Lines(),
        disable=total == 0 or not log.isEnabledFor(logging.INFO),
        **({"dynamic_ncols": True} if live else logged),
    )


def parse_args(
    parser: argparse.ArgumentParser,
    *,
    writes: Sequence[str] = (),
    replaces: Sequence[str] = (),
    words: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Parse the command line, with the options that every command has: -v and -q.

    Where a stage's command line is not at hand, as in `dvc repro`, UST_LOG=quiet or verbose does the same.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    writes : sequence of str
        The arguments that name files to write.
    replaces : sequence of str
        Those that name folders to replace; there is an option --force then.
    words : sequence of str, optional
        The command line, by default the process's.

    Raises
    ------
    UserError
        If the command line is not understood, or would write over what it reads or writes elsewhere.
    """

    def error(message: str) -> None:
        raise UserError(f"{message}; {parser.prog} --help says what is taken")

    parser.error = error
    how_much = parser.add_mutually_exclusive_group()
    for name, text in (("verbose", "say more, with tracebacks"), ("quiet", "say what is wrong and no more")):
        how_much.add_argument(
            f"-{name[0]}", f"--{name}", dest="log", action="store_const", const=name, help=text
        )
    if replaces:
        parser.add_argument(
            "--force", action="store_true", help=f"replace {', '.join(replaces)} whatever is in it"
        )
    args = parser.parse_args(words)
    level = args.log or os.environ.get("UST_LOG") or "normal"
    if level not in LEVELS:
        raise UserError(f"UST_LOG is {level!r}, should be one of {', '.join(LEVELS)}")
    log.setLevel(LEVELS[level])
    _refuse_overwriting(args, writes, replaces)
    return args


def _refuse_overwriting(args: argparse.Namespace, writes: Sequence[str], replaces: Sequence[str]) -> None:
    """Refuse outputs that are inputs, hold inputs, or are given twice."""
    given = {
        name: [
            value for value in (values if isinstance(values, list) else [values]) if isinstance(value, Path)
        ]
        for name, values in vars(args).items()
    }
    here = Path.cwd()
    for name in (*writes, *replaces):
        for out in given[name]:
            place = out.resolve()
            if place == here or place in here.parents:
                continue  # refused by whoever writes there, for that reason
            for other, paths in given.items():
                for path in paths if other != name else ():
                    if path.resolve() == place:
                        raise UserError(
                            f"{out}: is given as {name} and as {other}, should be two different paths"
                        )
                    if name in replaces and other not in writes and place in path.resolve().parents:
                        raise UserError(
                            f"{out}: {name} would be replaced, but {other} lies in it; name another"
                        )


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Which of how many, from an option like "3/16"; None of None.

    Raises
    ------
    UserError
        If it is not of that form.
    """
    if text is None:
        return None
    first, slash, count = text.partition("/")
    if not (slash and first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise UserError(f"--shard is {text!r}, should be I/N, such as 3/16")
    return int(first), int(count)


def log_done(message: str, *values: object) -> None:
    """Say what was written, how much of it, and how long that took: a command's last line."""
    seconds = time.monotonic() - _started
    minutes, rest = divmod(round(seconds), 60)
    log.info(message + ", %s", *values, f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s")


def escape_output() -> None:
    """Have standard output and error take any text: what their encoding lacks is escaped, not refused."""
    codecs.register_error("ust", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ust")


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Replace what a terminal lacks: bars by #, dots by dots, letters by their escapes such as \xdf."""
    text = error.object[error.start : error.end]
    plain = {"…": "...", **dict.fromkeys("▏▎▍▌▋▊▉█▁▂▃▄▅▆▇", "#")}
    pieces = [plain.get(each) or printable(each) for each in text]
    return "".join(pieces).encode("ascii", "backslashreplace").decode(), error.end


def run_command(main: Callable[[], None]) -> None:
    """Run a command's main function; turn what the user can mend into one message and exit code 1.

    Raises
    ------
    SystemExit
        Always: 0 on success, 1 on a `UserError` or an operating-system error, 130 on Ctrl-C.
    """
    escape_output()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    for noisy in ("numba", "h5py", "absl", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Of joblib, about workers stopped because of an error that is reported itself, or replaced by fresh ones.
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
        sys.exit(
            f"error: {sys.executable} does not have the package {error.name}. Activate the project's "
            "environment (make .venv && source .venv/bin/activate), then run the command again."
        )
    except OSError as error:
        log.debug("", exc_info=True)
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}")
    except KeyboardInterrupt:
        log.error(
            "interrupted; the same command keeps finished clips, and goes on after a network's last epoch "
            "(heads, fine-tuning and the baseline start again)"
        )
        sys.exit(130)
    sys.exit(0)
