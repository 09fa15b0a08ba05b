"""The stages of the pipeline, one script each; dvc.yaml connects them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ust.cli.console import run_command

DVC_TEMPORARY = Path(".dvc") / "tmp"
PARAMS = Path("params.yaml")
WORKSPACE = Path("leaderboard") / "work"  # where stages.leaderboard runs the stages


def from_project(path: str) -> Path:
    """Return the absolute form of a path in params.yaml, which is relative to the project folder.

    The working folder differs from the project folder in two cases: queued experiments (``dvc exp run
    --queue``, ``--temp``) run in copies below ``.dvc/tmp``, and the leaderboard runs in its workspace.
    """
    here = Path.cwd()
    projects = (p for p in here.parents if here.is_relative_to(p / DVC_TEMPORARY) or here == p / WORKSPACE)
    return (next(projects, here) / path).resolve()


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage; if DVC started it, first check all of params.yaml, and save the duration at the end."""

    def run() -> None:
        stage = os.environ.get("DVC_STAGE")
        if stage is None:
            main()
            return
        temporary = Path(os.environ.get("DVC_ROOT", ""), DVC_TEMPORARY)
        check_all_params(PARAMS, temporary / "checked_params")
        started = time.monotonic()
        main()
        save_duration(temporary, stage, time.monotonic() - started)

    run_command(run, kept="finished clips are kept, trainings resume after their last saved epoch")


def save_duration(temporary: Path, stage: str, seconds: float) -> None:
    """Save the duration of a stage below ``.dvc/tmp``; in its outputs it would make equal runs differ."""
    from ust.util.documents import write_json

    path = duration_file(temporary, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"seconds": seconds})


def duration_file(temporary: Path, stage: str) -> Path:
    """Return the file with the duration of a stage's last run; `stage` may be "../dvc.yaml:train@cnn"."""
    return temporary / "durations" / f"{stage.rpartition(':')[2]}.json"


def check_all_params(params: Path, checked: Path) -> None:
    """Check a parameter file, so that a mistake in the last stage's section stops the first stage.

    The file `checked` has the digest of the last valid parameters and of the source that checked them:
    importing all sections takes seconds, comparing digests takes milliseconds.
    """
    from ust.util.digests import digest, source_digest
    from ust.util.files import write_text

    content = digest(params.read_bytes(), source_digest()) if params.is_file() else ""
    if content and checked.is_file() and checked.read_text("utf-8") == content:
        return

    from ust.cli.parameters import check_params
    from ust.util.errors import UserError

    try:
        check_params(params)
    except UserError as error:
        if "DVC_EXP_BASELINE_REV" not in os.environ or from_project("") != Path.cwd():
            raise
        # Not a queued experiment, which runs in a copy of the project.
        raise UserError(
            f"{error}\ndvc exp run has written this to {params}, where it stays; "
            f"to take it back: git restore {params}"
        ) from None
    if checked.parent.is_dir():
        write_text(checked, content)
