"""Extract the log-mel spectrograms of all clips and variants to HDF5."""

import argparse
from pathlib import Path

import numpy as np

from ust import params
from ust.audio import CLIP_SECONDS, read_clip
from ust.console import log, run
from ust.extraction import in_workers
from ust.features import find_rows, write_features
from ust.logmel import logmel


def clip_logmel(path: Path, **settings: int) -> np.ndarray:
    """The log-mel spectrogram of an audio file, as stored (float16: at most 0.04 dB off)."""
    return logmel(read_clip(path, settings["sample_rate"]), **settings).astype(np.float16)


def main() -> None:
    """Write clip, variant, split and logmel (n, n_mels, frames) in dB relative to the clip's maximum."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract_logmel", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    settings = params.load(args.params, "logmel")[0].model_dump()

    rows = find_rows(args.audio, args.augmented)
    frames = 1 + CLIP_SECONDS * settings["sample_rate"] // settings["hop_length"]
    values = in_workers(clip_logmel, rows, description="log-mel", **settings)
    shape = (settings["n_mels"], frames)
    write_features(args.out, "logmel", rows, values, shape=shape, dtype="float16", attributes=settings)
    log.info("%s: %d rows of %d × %d", args.out, len(rows), *shape)


if __name__ == "__main__":
    run(main)
