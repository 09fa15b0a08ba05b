"""Extract the VGGish embeddings of all clips and variants to HDF5."""

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ust import params
from ust.audio import fit_length, read_recording
from ust.console import log, run
from ust.device import prepare
from ust.embedding import EMBEDDING
from ust.extraction import in_workers
from ust.features import find_rows, write_features
from ust.vggish import Embedder, examples
from ust.vggish_weights import load_description, load_weights

EXAMPLES_PER_CLIP = 10  # of 0.96 s in ten seconds


def clip_examples(path: Path) -> np.ndarray:
    """The network's input for an audio file [shape=(10, 96, 64)]."""
    recording = read_recording(path)
    mono = fit_length(recording.samples.mean(axis=1), recording.sample_rate)
    return examples(mono, recording.sample_rate)


def in_batches(patches: Iterable[np.ndarray], embedder: Embedder, clips: int) -> Iterator[np.ndarray]:
    """Embed several clips at a time; yield the embeddings of each [shape=(10, 128), uint8]."""
    patches = iter(patches)
    while batch := list(islice(patches, clips)):
        yield from embedder(np.concatenate(batch)).reshape(len(batch), -1, EMBEDDING)


def main() -> None:
    """Write clip, variant, split and vggish (n, 10, 128), quantised to 0..255."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract_vggish", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("weights", type=Path, help="folder of the stage vggish_weights")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    settings, compute = params.load(args.params, "vggish", "compute")
    device = prepare(device=compute.device, threads=compute.threads)

    provenance = load_description(args.weights)
    embedder = Embedder(
        load_weights(args.weights),
        final_relu=settings.final_relu,
        device=device,
        precision=settings.precision,
    )
    rows = find_rows(args.audio, args.augmented)
    patches = in_workers(clip_examples, rows, description="VGGish")
    values = in_batches(patches, embedder, settings.batch_clips)
    shape = (EXAMPLES_PER_CLIP, EMBEDDING)
    write_features(
        args.out,
        "vggish",
        rows,
        values,
        shape=shape,
        dtype="uint8",
        attributes=provenance | {"precision": settings.precision},
    )
    log.info("%s: %d rows of %d × %d, %s weights", args.out, len(rows), *shape, provenance["weights"])


if __name__ == "__main__":
    run(main)
