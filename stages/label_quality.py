"""Compare label aggregation rules, applied to the volunteers' votes, with the ground truth."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log, log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write the metrics of each rule, and with --details three tables for curating the annotations."""
    parser = argparse.ArgumentParser(prog="python -m stages.label_quality", description=__doc__)
    parser.add_argument("annotations", type=Path, help="annotations.csv")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--split", help="split to evaluate, by default label_quality.split of params.yaml")
    parser.add_argument(
        "--details", type=Path, help="folder for annotators.csv, doubtful.csv, reliability.csv"
    )
    parser.add_argument(
        "--without-seconds",
        action="store_true",
        help="leave out durations, so that equal runs write equal files",
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["out"], argv=argv)

    import time

    import pandas as pd

    from ust.annotations.annotations import read_annotations, read_coarse_mode, select_ground_truth
    from ust.annotations.rules.registry import read_label_quality
    from ust.annotations.rules.votes import collect_votes
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.label_quality import (
        TABLES,
        annotator_table,
        doubtful_labels,
        evaluate_rules,
        reliability_table,
    )
    from ust.util.documents import write_json
    from ust.util.tables import write_csv

    section, rules = read_label_quality(args.params)
    taxonomy = read_taxonomy(args.taxonomy)
    annotations = read_annotations(args.annotations, taxonomy, read_coarse_mode(args.params))
    split = args.split or section.split
    truth = select_ground_truth(annotations, split).set_index("audio_filename")[list(taxonomy.labels)]
    votes = collect_votes(annotations, taxonomy)
    scored = truth.index.isin(votes.clips)
    if not scored.any():
        log.warning("warning: the %s clips with ground truth have no votes of volunteers", split)
        write_json(args.out, {name: {"clips": 0} for name in rules})
        for name, columns in TABLES.items() if args.details else ():
            write_csv(args.details / f"{name}.csv", pd.DataFrame(columns=list(columns)))
        return
    rows = pd.Index(votes.clips).get_indexer(truth.index[scored])
    y = (truth[scored] == 1).to_numpy()

    estimates, seconds = {}, {}
    for name, (rule, settings) in rules.items():
        inputs = {"annotations": annotations} if rule.supervised else {}
        started = time.monotonic()
        estimates[name] = rule.estimate(votes, settings, **inputs)
        seconds[name] = round(time.monotonic() - started, 2)
        log.info("%s: %.1f s", name, seconds[name])
    predicted = {name: values[rows] for name, values in estimates.items()}
    metrics = evaluate_rules(y, predicted, taxonomy, bootstrap=section.bootstrap, seed=section.seed)
    for name, (rule, _) in rules.items():
        metrics[name]["clips"] = len(y)
        if rule.supervised:
            metrics[name]["learns_from_ground_truth_of"] = sorted(
                set(annotations.loc[annotations["annotator_id"] == 0, "split"])
            )
        if not args.without_seconds:
            metrics[name]["seconds"] = seconds[name]
    write_json(args.out, metrics)

    if args.details:
        _, settings = rules[section.annotators]
        tables = {
            "annotators": annotator_table(votes, settings),
            "doubtful": doubtful_labels(votes, estimates[section.annotators], limit=section.doubtful),
            "reliability": reliability_table(y, predicted, taxonomy),
        }
        for name, table in tables.items():
            write_csv(args.details / f"{name}.csv", table, float_format="%.6g")
    log_done("%s: %d rules, %d %s clips with ground truth", args.out, len(metrics), len(y), split)


if __name__ == "__main__":
    run_stage(main)
