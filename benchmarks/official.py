"""Compare our coarse metrics with those of the official script, on prediction files that have its JSON.

    python -m benchmarks.official ../shared/sonyc-predictions ../shared/sonyc-truth/v2_validate_coarse.csv \
        ../shared/sonyc-ust-v1/dcase-ust-taxonomy.yaml

The folder holds ``output<name>.csv`` and the script's ``evaluation_output<name>.json`` for each system.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from ust.annotations.annotations import read_ground_truth
from ust.annotations.taxonomy import read_taxonomy
from ust.evaluation.evaluation import Evaluation
from ust.evaluation.metrics import Scores


def pairs(folder: Path, truth: Path, taxonomy: Path) -> Iterator[tuple[str, Scores, dict]]:
    """Yield each file's name, our coarse scores and the official script's coarse figures."""
    labels = read_taxonomy(taxonomy)
    table, others = read_ground_truth(truth, labels, "validate")
    for path in sorted(folder.glob("output*.csv")):
        official = json.loads((folder / f"evaluation_{path.stem}.json").read_text("utf-8"))["coarse"]
        yield path.name, Evaluation.read(path, table, labels, others=others).scores("coarse"), official


def main() -> None:
    """Print a Markdown table: a row for each file, ours minus official."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.official", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("taxonomy", type=Path)
    args = parser.parse_args()
    rows = [
        "| file | micro F1 | difference | micro AUPRC | difference | macro AUPRC | difference | class |",
        "| --- " * 8 + "|",
    ]
    for name, ours, official in pairs(args.folder, args.truth, args.taxonomy):
        cells = [f"`{name}`"]
        for figure, digits in (("micro_f1", 4), ("micro_auprc", 6), ("macro_auprc", 4)):
            value = getattr(ours, figure)
            difference = value - official[figure]
            cells += [f"{value:.4f}", "0" if difference == 0 else f"{difference:+.{digits}f}"]
        classes = {key: value - official["class_auprc"][key] for key, value in ours.class_auprc.items()}
        largest = max(classes, key=lambda key: abs(classes[key]))
        cells.append(f"{largest} {classes[largest]:+.4f}")
        rows.append(f"| {' | '.join(cells)} |")
    print("\n".join(rows))  # noqa: T201


if __name__ == "__main__":
    main()
