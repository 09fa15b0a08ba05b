"""What a stage says on the terminal: log lines, progress bars, and errors without tracebacks."""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from tqdm import tqdm

from ust.errors import UserError

T = TypeVar("T")
log = logging.getLogger("ust")


class _Lines:
    """A text stream for tqdm that makes a line of each of its redrawings, for logs."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
    """Iterate with a progress bar; in CI or a pipe, with a line now and then instead."""
    live = sys.stderr.isatty() and not os.environ.get("CI")
    logged = {"delay": 10, "mininterval": 15, "maxinterval": 60, "ascii": True, "ncols": 80}
    return tqdm(
        items,
        total=total,
        desc=description,
        unit=unit,
        file=sys.stderr if live else _Lines(),
        disable=total == 0,
        **({"dynamic_ncols": True} if live else logged),
    )


def run(main: Callable[[], None]) -> None:
    """Run a stage's main function; turn what the user can mend into one message and exit code 1.

    Raises
    ------
    SystemExit
        Always: 0 on success, 1 on a `UserError` or an operating-system error, 130 on Ctrl-C.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr, force=True)
    for noisy in ("numba", "h5py", "absl", "matplotlib", "dvclive", "dvc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"error: {error.strerror or error}{where}")
    except KeyboardInterrupt:
        log.error("interrupted: nothing half-written is kept; run the same command to start again")
        sys.exit(130)
    sys.exit(0)
