"""Average trained systems, with weights fitted on their out-of-fold predictions of the train clips."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages import run_stage
from ust.cli.console import log_done, parse_args


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder of an ensemble, with copies of its members."""
    parser = argparse.ArgumentParser(prog="python -m stages.ensemble", description=__doc__)
    parser.add_argument("members", type=Path, nargs="+", help="folders of the stages train and ensemble")
    parser.add_argument("labels", type=Path, help="CSV of the stage aggregate_labels")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="folder for the ensemble")
    args = parse_args(parser, replaces=["out"], argv=argv)

    from ust.annotations.labels import read_labels
    from ust.annotations.taxonomy import read_taxonomy
    from ust.training.ensemble import build_ensemble
    from ust.util.folders import atomic_folder

    taxonomy = read_taxonomy(args.taxonomy)
    labels = read_labels(args.labels, taxonomy).query("split == 'train'")
    with atomic_folder(args.out, by="ensemble", force=args.force) as folder:
        shares = build_ensemble(args.members, labels, taxonomy, folder)
    names = [member.name for member in args.members]
    texts = [
        f"{level} {' + '.join(f'{share:.2f} {name}' for share, name in zip(of, names, strict=True))}"
        for level, of in shares.items()
    ]
    log_done("%s: %s", args.out, ", ".join(texts))


if __name__ == "__main__":
    run_stage(main)
