"""Set all systems and seeds of the leaderboard side by side: a table, a chart of score against cost, bars
by class."""

import argparse
from pathlib import Path

from ust.cli.console import log, log_done, parse_args, progress, run_command


def main() -> None:
    """Write results.json, table.md, cost.png and classes.png."""
    parser = argparse.ArgumentParser(prog="python -m stages.leaderboard", description=__doc__)
    parser.add_argument("results", type=Path, help="folder of SEED/SYSTEM/predictions.csv and timing.json")
    parser.add_argument("models", type=Path, help="folder of SEED/SYSTEM, and of the features' weights")
    parser.add_argument("data", type=Path, help="folder of the stage download")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, replaces=["out"])

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
    from ust.tagging.locate import PRETRAINED
    from ust.tagging.tagger import Tagger, median_latency_ms
    from ust.util.config import Name, read_sections
    from ust.util.documents import read_json, write_json
    from ust.util.folders import atomic_folder

    kinds = {"leaderboard": Leaderboard, "evaluate": Evaluate, "checkpoints": dict[Name, Checkpoint]}
    board, settings, checkpoints = read_sections(args.params, **kinds)
    taxonomy = read_taxonomy(args.data / "dcase-ust-taxonomy.yaml")
    coarse = read_coarse_mode(args.params)
    truth, others = read_ground_truth(args.data / "annotations.csv", taxonomy, settings.split, coarse)
    recordings = sorted((args.data / "audio" / settings.split).iterdir())[: board.timed_clips]

    entries = {}
    for name in progress(board.names, total=len(board.names), description="systems", unit="system"):
        places = [args.results / str(seed) / name for seed in board.seeds]
        evaluations = [
            Evaluation.read(place / "predictions.csv", truth, taxonomy, others=others) for place in places
        ]
        trained = [
            place.with_name(member) / "timing.json" for place in places for member in board.members(name)
        ]
        minutes = [read_json(path, made_by="compete")["minutes"] for path in trained]
        folder = args.models / str(board.seeds[0]) / checkpoints[name].model
        options = checkpoints[name].model_dump(exclude={"model"})
        tagger = Tagger.load(folder, networks=args.models / PRETRAINED, **options)
        weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        cost = {
            "train_minutes": round(sum(minutes) / len(places), 2),
            "ms_per_clip": round(median_latency_ms(tagger, recordings), 1),
            "parameters": count_parameters(tagger.system),
            "megabytes": round(weights / 1e6, 2),
        }
        entries[name] = Entry(evaluations, cost)
    rows = leaderboard_rows(entries, against=board.against, bootstrap=board.bootstrap, seed=settings.seed)
    text = recommend_system(rows)
    with atomic_folder(args.out, by="leaderboard", force=args.force) as folder:
        write_json(folder / "results.json", rows)
        (folder / "table.md").write_text(f"{leaderboard_markdown(rows, board.against)}\n{text}\n", "utf-8")
        in_order = {row["system"]: entries[row["system"]].evaluations for row in rows}
        figures = {"cost": cost_figure(rows), "classes": classes_figure(in_order, taxonomy)}
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=100, metadata={"Software": None})
    log.info("%s", text)
    log_done("%s: %d systems, %d seeds", args.out, len(rows), len(board.seeds))


if __name__ == "__main__":
    run_command(main)
