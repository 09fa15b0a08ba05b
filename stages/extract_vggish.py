"""Extract the VGGish embeddings of all clips and variants to HDF5."""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from ust import audio, embedding, layers, params, resampling, vggish
from ust.audio import fit_length, read_recording
from ust.console import done, parse, run
from ust.device import prepare
from ust.digests import method_digest, versions
from ust.embedding import EMBEDDING
from ust.extraction import Results, extract, in_workers
from ust.features import Row, find_rows
from ust.vggish import Embedder, examples
from ust.vggish_weights import load_description, load_weights

EXAMPLES_PER_CLIP = 10  # of 0.96 s in ten seconds
METHOD = (audio, embedding, layers, resampling, vggish)
PACKAGES = ("numpy", "resampy", "soundfile", "torch")


def clip_examples(path: Path) -> np.ndarray:
    """The network's input for an audio file [shape=(10, 96, 64)]."""
    recording = read_recording(path)
    mono = fit_length(recording.samples.mean(axis=1), recording.sample_rate)
    return examples(mono, recording.sample_rate)


def in_batches(patches: Results, embedder: Embedder, clips: int) -> Iterator[tuple[Row, np.ndarray]]:
    """Embed several clips at a time; yield each clip's row and embeddings [shape=(10, 128), uint8].

    A last batch is filled up with zeros: how a sum is taken depends on the batch's size, and so a clip's
    embeddings must not depend on how many others are embedded with it.
    """
    patches = iter(patches)
    while batch := list(islice(patches, clips)):
        rows, values = zip(*batch, strict=True)
        empty = [np.zeros_like(values[0])] * (clips - len(values))
        embeddings = embedder(np.concatenate([*values, *empty])).reshape(clips, -1, EMBEDDING)
        yield from zip(rows, embeddings, strict=False)


def write_embeddings(
    path: Path, rows: list[Row], embedder: Embedder, settings: params.VGGish, provenance: dict[str, str]
) -> None:
    """Write the feature file."""
    attributes = provenance | {"precision": settings.precision, "versions": versions(*PACKAGES)}
    # Whatever else the last bits depend on.
    conditions = {
        "final_relu": settings.final_relu,
        "batch_clips": settings.batch_clips,
        "threads": torch.get_num_threads(),
        "device": embedder.device.type,
    }

    def compute(rows: list[Row]) -> Results:
        patches = in_workers(clip_examples, rows, description="VGGish")
        return in_batches(patches, embedder, settings.batch_clips)

    extract(
        path,
        "vggish",
        rows,
        compute,
        shape=(EXAMPLES_PER_CLIP, EMBEDDING),
        dtype="uint8",
        method=method_digest(METHOD, attributes | conditions),
        attributes=attributes,
    )


def main() -> None:
    """Write clip, variant, split and vggish (n, 10, 128), quantised to 0..255."""
    parser = argparse.ArgumentParser(prog="python -m stages.extract_vggish", description=__doc__)
    parser.add_argument("audio", type=Path, help="folder with a folder per split")
    parser.add_argument("augmented", type=Path, help="folder of the stage augment")
    parser.add_argument("weights", type=Path, help="folder of the stage vggish_weights")
    parser.add_argument("out", type=Path, help="HDF5 file to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, writes=["out"])
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
    write_embeddings(args.out, rows, embedder, settings, provenance)
    done(
        "%s: %d rows of %d × %d, %s weights",
        args.out,
        len(rows),
        EXAMPLES_PER_CLIP,
        EMBEDDING,
        provenance["weights"],
    )


if __name__ == "__main__":
    run(main)
