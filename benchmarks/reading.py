"""Read all train rows of the log-mels from disk, in shuffled batches: a step of the scaling."""

import sys
from pathlib import Path

import numpy as np

from ust.features.store import open_feature_files
from ust.models.examples import batch_bounds


def main(features: Path) -> None:
    """Read each row once."""
    with open_feature_files(features, {"log_mel": "logmel"}) as files:
        rows = np.flatnonzero(next(iter(files.values())).split == "train")
        order = np.random.default_rng(0).permutation(rows)
        for start, end in batch_bounds(len(order), 32):
            for file in files.values():
                file[order[start:end]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
