"""Reading features for training against a pickle a clip."""

import joblib
import numpy as np
import torch

from benchmarks.inputs import BATCH, Bench
from benchmarks.timing import Pair
from ust.models.examples import Examples


def loading(bench: Bench, cache_gib: float = 1.0, name: str = "loading") -> Pair:
    """A shuffled epoch of batches of stored features, kept in memory as in training."""
    rows = np.arange(len(bench.rows))
    order = np.random.default_rng(0).permutation(rows)
    features = bench.opened(cache_gib)
    everything = Examples(features, rows, np.zeros((len(rows), 37), np.float32))
    pickles, cpu = bench.pickles, torch.device("cpu")

    def ours() -> None:
        for _ in everything.batches(BATCH, order=order, device=cpu):
            pass

    def theirs() -> None:
        for start in range(0, len(order), BATCH):
            # A pickle as the peer would load it; this process wrote it a moment ago.
            pairs = [joblib.load(pickles / str(index)) for index in order[start : start + BATCH]]
            for part in zip(*pairs, strict=True):
                torch.from_numpy(np.stack(part))

    return Pair(name, "a float32 pickle per clip", ours, theirs, "clip", per=len(rows), rounds=9)


def loading_disk(bench: Bench) -> Pair:
    """The same, read from the compressed file: what an epoch costs where memory is too small."""
    return loading(bench, 0.0, "loading_disk")


def bytes_per_clip(bench: Bench) -> dict[str, float]:
    """Bytes a clip's features take on disk, and as float32 pickles."""
    size = sum(path.stat().st_size for path in bench.features)
    pickled = sum(path.stat().st_size for path in bench.pickles.iterdir())
    return {"ours": size / len(bench.rows), "pickles": pickled / len(bench.rows)}
