"""Extract the log-mel spectrograms of all clips and variants to HDF5."""

import argparse
from pathlib import Path

import numpy as np

from ust import audio, params, resampling
from ust import logmel as logmel_module
from ust.audio import read_clip
from ust.clips import CLIP_SECONDS
from ust.console import done, parse, run
from ust.digests import method_digest, versions
from ust.extraction import Results, extract, in_workers
from ust.features import Row, find_rows
from ust.logmel import logmel

METHOD = (audio, logmel_module, resampling)
PACKAGES = ("librosa", "numpy", "resampy", "soundfile")


def clip_logmel(path: Path, **settings: int) -> np.ndarray:
    """The log-mel spectrogram of an audio file, as stored (float16: at most 0.04 dB off)."""
    return logmel(read_clip(path, settings["sample_rate"]), **settings).astype(np.float16)


def write_logmels(path: Path, rows: list[Row], settings: dict[str, int]) -> tuple[int, int]:
    """Write the feature file; the shape of a spectrogram."""
    attributes = settings | {"versions": versions(*PACKAGES)}
    shape = settings["n_mels"], 1 + CLIP_SECONDS * settings["sample_rate"] // settings["hop_length"]

    def compute(rows: list[Row]) -> Results:
        return in_workers(clip_logmel, rows, description="log-mel", **settings)

    extract(
        path,
        "logmel",
        rows,
        compute,
        shape=shape,
        dtype="float16",
        method=method_digest(METHOD, attributes),
        attributes=attributes,
    )
    return shape


def main() -> None:
    """Write clip, variant, split and logmel (n, n_mels, frames) in dB relative to the clip's maximum."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract_logmel", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out"])
    (settings,) = params.load(args.params, "logmel")
    rows = find_rows(args.audio, args.augmented)
    shape = write_logmels(args.out, rows, settings.model_dump())
    done("%s: %d rows of %d × %d", args.out, len(rows), *shape)


if __name__ == "__main__":
    run(main)
