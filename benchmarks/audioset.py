"""Calibrate the system ``audioset`` on the train clips of a city.

    python -m benchmarks.audioset CITY mn04_as_mAP_432.pt [--write audioset_classes.csv]

CITY has ``train``, ``train_truth.csv`` and ``dcase-ust-taxonomy.yaml``. For several shares of the typical
logits, it prints the micro average precision of coarse and fine labels, and scale and shift by logistic
regression over all labels that occur. The share 0.5 is used: from 0.25 to 1 they differ little, and the
background of a mixed city is not that of a street.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from ust.annotations.audioset import class_indices, map_labels_to_classes
from ust.annotations.taxonomy import read_taxonomy
from ust.features.efficientat.network import CLASSES
from ust.models.audioset import AudioSet
from ust.models.outputs import raise_coarse_to_fine
from ust.tagging.audioset import prepare_audioset
from ust.tagging.tagger import Tagger, fit_length, read_recording

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
BATCH = 4


def window_maxima(tagger: Tagger, paths: list[Path]) -> np.ndarray:
    """Return the highest logits in windows of each recording [shape=(recordings, 527)]."""
    rows = []
    for start in range(0, len(paths), BATCH):
        recordings = [read_recording(path) for path in paths[start : start + BATCH]]
        clips = [fit_length(each.samples, each.sample_rate) for each in recordings]
        (values,) = tagger.features(clips, recordings[0].sample_rate).values()
        rows.append(values[:, -CLASSES:])
    return np.concatenate(rows)


def main() -> None:
    """Print the table; with --write, write the typical logits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("city", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--write", type=Path, help="CSV file to write names and typical logits to")
    args = parser.parse_args()

    torch.set_num_threads(1)
    taxonomy = read_taxonomy(args.city / "dcase-ust-taxonomy.yaml")
    truth = pd.read_csv(args.city / "train_truth.csv").sort_values("audio_filename")
    targets = truth[[f"{label}_presence" for label in taxonomy.labels]].to_numpy()
    tagger = Tagger.load(prepare_audioset(checkpoint=args.weights))
    logits = window_maxima(tagger, [args.city / "train" / name for name in truth["audio_filename"]])
    typical = np.median(logits, axis=0).round(1)
    if args.write:
        with args.write.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["index", "name", "typical_logit"])
            writer.writerows(
                [index, name, f"{typical[index]:.1f}"] for name, index in class_indices().items()
            )
    occurs = targets.any(axis=0)
    k = len(taxonomy.coarse)
    for share in SHARES:
        config = AudioSet.Config(classes=map_labels_to_classes(taxonomy), typical=share, scale=1.0, shift=0.0)
        network = AudioSet(config, len(taxonomy.labels), {"embedding": (CLASSES + 1,)})
        network.typical.copy_(share * network._sum_odds(torch.from_numpy(typical).unsqueeze(0))[0])
        values = raise_coarse_to_fine(network(torch.from_numpy(logits)), taxonomy).numpy()
        coarse = average_precision_score(targets[:, :k].ravel(), values[:, :k].ravel())
        fine = average_precision_score(targets[:, k:].ravel(), values[:, k:].ravel())
        fit = LogisticRegression(C=1e6).fit(values[:, occurs].reshape(-1, 1), targets[:, occurs].ravel())
        sys.stdout.write(
            f"share {share:4.2f}  coarse {coarse:.3f}  fine {fine:.3f}  "
            f"scale {fit.coef_.item():.2f}  shift {fit.intercept_.item():.2f}\n"
        )


if __name__ == "__main__":
    main()
