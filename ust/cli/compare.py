"""Compare systems by a paired bootstrap: is the difference between them significant?"""

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ust.cli.console import log, parse_args


def main(prog: str = "python -m stages.compare", argv: Sequence[str] | None = None) -> None:
    """Print, for each pair of systems, the difference of each metric with its interval."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    add = parser.add_argument
    add("predictions", type=Path, nargs="+", help="two or more CSVs in the submission layout")
    add(
        "--annotations", type=Path, default=Path("data/raw/annotations.csv"), help="CSV with the ground truth"
    )
    add("--taxonomy", type=Path, default=Path("data/raw/dcase-ust-taxonomy.yaml"))
    add("--split", choices=["train", "validate", "test"], help="default: evaluate.split of --params")
    add("--unit", choices=["clips", "sensors"], default="clips", help="unit that the bootstrap resamples")
    add("--out", type=Path, help="JSON file to write the figures to")
    add("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["out"], argv=argv)
    if len(args.predictions) < 2:
        parser.error("two files of predictions are needed to compare")
    if len({path.resolve() for path in args.predictions}) < len(args.predictions):
        parser.error("the same file of predictions is given twice")

    from ust.annotations.annotations import read_coarse_mode, read_ground_truth
    from ust.annotations.taxonomy import read_taxonomy
    from ust.evaluation.config import read_evaluate
    from ust.evaluation.evaluation import Evaluation, compare_systems
    from ust.util.documents import write_json

    settings = read_evaluate(args.params)
    taxonomy = read_taxonomy(args.taxonomy)
    split, coarse = args.split or settings.split, read_coarse_mode(args.params)
    truth, others = read_ground_truth(args.annotations, taxonomy, split, coarse)
    systems = [Evaluation.read(path, truth, taxonomy, others=others) for path in args.predictions]

    pairs = []
    for (a, first), (b, second) in combinations(zip(args.predictions, systems, strict=True), 2):
        figures = compare_systems(first, second, unit=args.unit, count=settings.bootstrap, seed=settings.seed)
        pairs.append({"first": str(a), "second": str(b), "figures": figures})
        log.info("%s against %s, %d resamples of %s:", a, b, settings.bootstrap, args.unit)
        for name, row in figures.items():
            log.info(
                "  %-26s %.4f  %.4f  difference %+.4f [%+.4f, %+.4f]  first ahead in %.1f %%",
                *(name, row["first"], row["second"], row["difference"], *row["ci95"]),
                100 * row["first_ahead"],
            )
    if args.out:
        write_json(args.out, pairs)
