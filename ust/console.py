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


def progress(items: Iterable[T], *, total: int, description: str, unit: str = "clip") -> Iterable[T]:
    """Iterate with a progress bar; in CI or a pipe, a line now and then instead of a moving bar."""
    live = sys.stderr.isatty() and not os.environ.get("CI")
    return tqdm(
        items,
        total=total,
        desc=description,
        unit=unit,
        mininterval=0.1 if live else 20,
        maxinterval=10 if live else 60,
        file=sys.stderr,
        dynamic_ncols=live,
        ascii=not live,
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
