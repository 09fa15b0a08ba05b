"""Train systems with several seeds on one data set, and compare their metrics and their cost.

The presets pretrained and leaderboard and then the arguments change the parameters of params.yaml:

python -m stages.leaderboard data.source=local data.path=../urban

The pipeline of dvc.yaml runs in the workspace leaderboard/work. Run the command again to continue after an
interruption: finished stages are not repeated.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages import DVC_TEMPORARY, PARAMS, WORKSPACE, duration_file, from_project
from stages.preset import apply_changes
from ust.cli.console import log, log_done, parse_args, progress, run_command

# The stage that trains the rows of each table.
TRAINED_BY = {
    "systems": "train",
    "hierarchies": "train_hierarchy",
    "pretrained": "train_pretrained",
    "ensembles": "ensemble",
}
MODEL_KEYS = ("flat", "first", "second", "model")  # keys of rows that name a trained model
LINKS = ("dvc.yaml", ".dvcignore", "stages", "ust")  # of the project, in the workspace


def name_with_seed(model: str, seed: int) -> str:
    """Return the name of a model trained with a seed.

    Examples
    --------
    >>> name_with_seed("cnn/coarse", 1)
    'cnn-1/coarse'
    """
    system, slash, checkpoint = model.partition("/")
    return f"{system}-{seed}{slash}{checkpoint}"


def find_row(params: Mapping[str, Any], model: str) -> tuple[str, str]:
    """Return the table and the name of the row that trains a model such as "cnn/coarse"."""
    from ust.util.errors import UserError

    name = model.partition("/")[0]
    for table in TRAINED_BY:
        if name in params[table]:
            return table, name
    raise UserError(f"{PARAMS}: {model!r} should begin with a row of {', '.join(TRAINED_BY)}")


def repeat_over_seeds(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with one row per seed for each system of the leaderboard, and no other rows."""

    rows: dict[str, dict[str, Any]] = {table: {} for table in (*TRAINED_BY, "checkpoints")}

    def add(table: str, name: str, seed: int) -> None:
        row = dict(params[table][name])
        for key in (key for key in MODEL_KEYS if key in row):
            add(*find_row(params, row[key]), seed)  # before this row: an ensemble follows its members
            row[key] = name_with_seed(row[key], seed)
        if row.get("trainer", "untrained") != "untrained":
            row["seed"] = seed
        rows[table][name_with_seed(name, seed)] = row

    board = params["leaderboard"]
    for seed in board["seeds"]:
        for name in board["systems"]:
            add("checkpoints", name, seed)
    sections = {name: section for name, section in params.items() if name != "leaderboard"}
    return sections | rows | {"submission": next(iter(rows["checkpoints"]))}


def training_stages(params: Mapping[str, Any], model: str) -> set[str]:
    """Return the stages that train a model and the models that it consists of."""
    table, name = find_row(params, model)
    row = params[table][name]
    members = (training_stages(params, row[key]) for key in MODEL_KEYS if key in row)
    return {f"{TRAINED_BY[table]}@{name}"}.union(*members)


def prepare_workspace(work: Path, params: Mapping[str, Any]) -> None:
    """Make a DVC project in which the project's pipeline runs with other parameters."""
    from ust.util.documents import write_yaml
    from ust.util.files import atomic_write

    (work / ".dvc").mkdir(parents=True, exist_ok=True)
    (work / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n", "utf-8")
    for name in LINKS:
        if not (work / name).is_symlink():
            (work / name).symlink_to(Path("..", "..", name))
    # DVC takes the dependency data.path relative to the workspace, the stages relative to the project.
    data = params["data"] | {"path": str(from_project(params["data"]["path"]))}
    with atomic_write(work / PARAMS) as partial:
        write_yaml(partial, {**params, "data": data})


def run_pipeline(work: Path) -> None:
    """Train and predict, without DVC's run cache, which would leave the durations of other runs in place."""
    from ust.util.errors import UserError

    command = (sys.executable, "-m", "dvc", "repro", "--no-run-cache", "predict")
    if code := subprocess.run(command, cwd=work, check=False).returncode:
        raise UserError(
            f"{work}: dvc repro has failed with exit code {code}; run the same command again to continue"
        )


def compare_systems(work: Path, settings: Mapping[str, Any], out: Path, *, force: bool) -> None:
    """Write results.json, table.md, cost.png and classes.png from a workspace with trained systems."""
    from ust.annotations.annotations import read_coarse_mode, read_ground_truth
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.config import Evaluate
    from ust.evaluation.evaluation import Evaluation
    from ust.models.checkpoints import Checkpoint, count_parameters
    from ust.reports.leaderboard import (
        Entry,
        Leaderboard,
        classes_figure,
        cost_figure,
        leaderboard_markdown,
        leaderboard_rows,
        recommend_system,
    )
    from ust.tagging.tagger import Tagger, median_latency_ms
    from ust.util.config import Name, read_sections
    from ust.util.documents import read_json, read_yaml, write_json
    from ust.util.folders import atomic_folder

    board = Leaderboard.model_validate(settings)
    params = read_yaml(work / PARAMS)
    evaluate, checkpoints = read_sections(
        work / PARAMS, evaluate=Evaluate, checkpoints=dict[Name, Checkpoint]
    )
    data = work / "data" / "raw"
    taxonomy = read_taxonomy(data / "dcase-ust-taxonomy.yaml")
    coarse = read_coarse_mode(work / PARAMS)
    truth, others = read_ground_truth(data / "annotations.csv", taxonomy, evaluate.split, coarse)
    recordings = sorted((data / "audio" / evaluate.split).iterdir())[: board.timed_clips]

    entries = {}
    for name in progress(board.systems, total=len(board.systems), description="systems", unit="system"):
        runs = [name_with_seed(name, seed) for seed in board.seeds]
        evaluations = [
            Evaluation.read(work / "data" / "predictions" / f"{run}.csv", truth, taxonomy, others=others)
            for run in runs
        ]
        stages = [stage for run in runs for stage in training_stages(params, checkpoints[run].model)]
        seconds = [
            read_json(duration_file(work / DVC_TEMPORARY, stage), made_by=stage)["seconds"]
            for stage in stages
        ]
        checkpoint = checkpoints[runs[0]]
        folder = work / "models" / checkpoint.model
        tagger = Tagger.load(folder, **checkpoint.model_dump(exclude={"model"}))
        weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        cost = {
            "train_minutes": round(sum(seconds) / 60 / len(runs), 2),
            "ms_per_clip": round(median_latency_ms(tagger, recordings), 1),
            "parameters": count_parameters(tagger.system),
            "megabytes": round(weights / 1e6, 2),
        }
        entries[name] = Entry(evaluations, cost)
    rows = leaderboard_rows(entries, against=board.against, bootstrap=board.bootstrap, seed=evaluate.seed)
    text = recommend_system(rows)
    with atomic_folder(out, by="leaderboard", force=force) as folder:
        write_json(folder / "results.json", rows)
        (folder / "table.md").write_text(f"{leaderboard_markdown(rows, board.against)}\n{text}\n", "utf-8")
        in_order = {row["system"]: entries[row["system"]].evaluations for row in rows}
        figures = {"cost": cost_figure(rows), "classes": classes_figure(in_order, taxonomy)}
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=100, metadata={"Software": None})
    log.info("%s", text)


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the workspace, run the pipeline in it and write the comparison."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.leaderboard", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("changes", nargs="*", help="name of a file in presets, or NAME.OF.PARAMETER=VALUE")
    parser.add_argument("--out", type=Path, default=Path("leaderboard", "board"), help="folder to write")
    args = parse_args(parser, replaces=["out"], argv=argv)

    from ust.cli.parameters import check_params_content
    from ust.util.folders import check_replaceable

    _, params = apply_changes(PARAMS, Path("presets"), ["pretrained", "leaderboard", *args.changes])
    check_params_content(PARAMS, params)
    check_replaceable(args.out, by="leaderboard", force=args.force)
    board = params["leaderboard"]
    prepare_workspace(WORKSPACE, repeat_over_seeds(params))
    run_pipeline(WORKSPACE)
    compare_systems(WORKSPACE, board, args.out, force=args.force)
    log_done("%s: %d systems, %d seeds", args.out, len(board["systems"]), len(board["seeds"]))


if __name__ == "__main__":
    run_command(main, kept="finished trainings are kept")
