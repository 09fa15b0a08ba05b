"""The pipeline's stages, one script each; dvc.yaml says how they hang together."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from ust.cli.console import run_command

DVC_TEMPORARY = Path(".dvc") / "tmp"
PARAMS = Path("params.yaml")
WORKSPACE = Path("leaderboard") / "work"  # where stages.leaderboard runs the stages


def from_project(path: str) -> Path:
    """A path of params.yaml, relative to the project folder.

    Queued experiments (``dvc exp run --queue``, ``--temp``) run in copies below ``.dvc/tmp`` of the project
    they belong to, and the leaderboard in its workspace; for them, too, the path is relative to that project.
    """
    here = Path.cwd()
    copies = (p for p in here.parents if here.is_relative_to(p / DVC_TEMPORARY) or here == p / WORKSPACE)
    home = next(copies, here)
    return (home / path).resolve()


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage; where DVC has started it, check all of params.yaml first and save the duration."""

    def checked() -> None:
        stage = os.environ.get("DVC_STAGE")
        if stage is None:
            main()
            return
        temporary = Path(os.environ.get("DVC_ROOT", ""), DVC_TEMPORARY)
        check_all_params(PARAMS, temporary / "checked_params")
        started = time.monotonic()
        main()
        save_duration(temporary, stage, time.monotonic() - started)

    run_command(checked)


def save_duration(temporary: Path, stage: str, seconds: float) -> None:
    """Save the duration of a stage below ``.dvc/tmp``: its outputs are the same whenever it runs."""
    from ust.util.documents import write_json

    path = duration_file(temporary, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"seconds": seconds})


def duration_file(temporary: Path, stage: str) -> Path:
    """Return the file with the duration of a stage's last run; `stage` may be "../dvc.yaml:train@cnn"."""
    return temporary / "durations" / f"{stage.rpartition(':')[2]}.json"


def check_all_params(params: Path, checked: Path) -> None:
    """Check a parameter file, so that a mistake in the last stage's section stops the first stage.

    Importing all sections takes seconds, the comparison with the last file that was in order milliseconds.

    Parameters
    ----------
    params : Path
    checked : Path
        File with the digest of the last parameter file that was in order, and of the source that checked it.

    Raises
    ------
    UserError
        Naming every wrong parameter.
    """
    from ust.util.digests import digest, source_digest
    from ust.util.files import atomic_write

    content = digest(params.read_bytes(), source_digest()) if params.is_file() else ""
    if content and checked.is_file() and checked.read_text("utf-8") == content:
        return

    from ust.cli.parameters import check_params

    check_params(params)
    if checked.parent.is_dir():
        with atomic_write(checked) as partial:
            partial.write_text(content, "utf-8")
