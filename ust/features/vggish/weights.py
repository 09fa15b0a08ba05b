"""Weights of VGGish: the AudioSet checkpoint, or random ones from a seed."""

import logging
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import model_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ust.features.feature import WEIGHTS_FILE, FetchFile, Network
from ust.features.vggish.embedding import EMBEDDING, postprocess
from ust.features.vggish.network import (
    CONVOLUTIONS,
    EXAMPLE_FRAMES,
    LINEARS,
    MEL_BANDS,
    Embedder,
    build_empty_network,
    log_mel_patches,
)
from ust.util.config import Precision, Section, Seed
from ust.util.digests import file_digest
from ust.util.errors import UserError, bullet_list, single_line
from ust.util.seeding import fill_normal, random_stream
from ust.util.tensors import write_tensors

log = logging.getLogger("ust")
# The checkpoint and the PCA parameters of AudioSet's authors, with their SHA-256.
RELEASED = {
    "https://storage.googleapis.com/audioset/vggish_model.ckpt":
        "0962b1914e3e053922d957c45bc84a78c985765641dc6bceeeb3a7d8dfecfdf6",
    "https://storage.googleapis.com/audioset/vggish_pca_params.npz":
        "4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
}  # fmt: skip
PCA_SHAPES = {"pca_eigen_vectors": (EMBEDDING, EMBEDDING), "pca_means": (EMBEDDING,)}
CALIBRATION_EXAMPLES = 64

# Mean and standard deviation of the embedding and of the post-processed embedding, for three seconds of a
# 1 kHz sine at 44.1 kHz. From the reference implementation's smoke test, by final_relu.
REFERENCE_STATISTICS = {True: (0.131, 0.238, 123.0, 75.0), False: (0.000657, 0.343, 126.0, 89.3)}
SMOKE_TOLERANCE = 0.1

HOW_TO_GET = (
    "vggish.checkpoint and vggish.pca name the two files that AudioSet's authors released; leave both null "
    "to download them, or set vggish.weights to random: an untrained network, enough to try the pipeline, "
    "not to reproduce the report"
)


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """Return name and shape of every variable of the checkpoint, without the prefix ``vggish/``."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, inputs, outputs in (layer for group in CONVOLUTIONS for layer in group):
        shapes |= {f"{name}/weights": (3, 3, inputs, outputs), f"{name}/biases": (outputs,)}
    for name, inputs, outputs in LINEARS:
        shapes |= {f"{name}/weights": (inputs, outputs), f"{name}/biases": (outputs,)}
    return shapes


def read_checkpoint(checkpoint: Path, pca: Path) -> dict[str, np.ndarray]:
    """Read the TensorFlow (V1, single-file) checkpoint and the PCA parameters.

    Returns
    -------
    dict of str to numpy.ndarray [float32]
        The variables of `variable_shapes`, ``pca_eigen_vectors`` (128, 128) and ``pca_means`` (128,).

    Raises
    ------
    UserError
        If a file is missing or unreadable, or a variable is missing or misshapen.
    """
    import tensorflow as tf  # slow to import, and needed only here

    for path in (checkpoint, pca):
        if not path.is_file():
            raise UserError(f"{path}: no such file; {HOW_TO_GET}")
    try:
        with np.load(pca, allow_pickle=False) as file:
            parameters = {name: file[name] for name in PCA_SHAPES if name in file.files}
    except Exception as error:  # NumPy, zipfile, zlib and the tokenizer raise a dozen types
        raise UserError(f"{pca}: not a readable npz file: {single_line(error)}") from None
    if "pca_means" in parameters:
        parameters["pca_means"] = parameters["pca_means"].reshape(-1)
    _check_shapes(pca, parameters, PCA_SHAPES)
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        stored_names = {name.removeprefix("vggish/"): name for name in reader.get_variable_to_shape_map()}
        arrays = {
            name: reader.get_tensor(stored_names[name]) for name in variable_shapes() if name in stored_names
        }
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(f"{checkpoint}: not a readable TensorFlow checkpoint: {single_line(error)}") from None
    _check_shapes(checkpoint, arrays, variable_shapes())
    return {name: np.ascontiguousarray(array, np.float32) for name, array in (arrays | parameters).items()}


def draw_random_variables(seed: int, *, final_relu: bool) -> dict[str, np.ndarray]:
    """Return random weights from a seed, the same on every processor, whose embeddings keep their variance.

    Weights are He-normal and biases zero. The PCA is replaced by centring and scaling each embedding
    dimension to unit variance over seeded noise patches, so that quantisation keeps the information.
    """
    variables = {name: np.zeros(shape, np.float32) for name, shape in variable_shapes().items()}
    for name, values in variables.items():
        if name.endswith("/weights"):
            deviation = math.sqrt(2 / math.prod(values.shape[:-1]))
            fill_normal(values, deviation, random_stream(seed, "vggish", name))
    # In double precision, another processor's order of summation rounds to the same float32.
    network = build_empty_network(final_relu=final_relu)
    network.load_variables(variables)
    patches = torch.from_numpy(_calibration_patches(random_stream(seed, "vggish", "patches"))).double()
    with torch.inference_mode():
        embeddings = torch.cat([network.double()(batch) for batch in patches.split(16)]).numpy()
    deviation = embeddings.std(axis=0)
    is_active = deviation > 1e-6 * deviation.max()  # ReLU can make a dimension constant
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=is_active)
    pca = {"pca_eigen_vectors": np.diag(scale), "pca_means": embeddings.mean(axis=0)}
    return variables | {name: array.astype(np.float32) for name, array in pca.items()}


def check_reference_statistics(variables: dict[str, np.ndarray], *, final_relu: bool) -> None:
    """Compare the embedding of a sine with the values of the reference's smoke test."""
    seconds, rate = 3, 44_100
    sine = np.sin(2 * np.pi * 1000 * np.arange(seconds * rate) / rate)
    embedder = Embedder(variables, final_relu=final_relu, device=torch.device("cpu"))
    embeddings = embedder.embed(log_mel_patches(sine, rate))
    quantised = postprocess(embeddings, *embedder.pca)
    measured = (embeddings.mean(), embeddings.std(), quantised.mean(), quantised.std())
    expected = REFERENCE_STATISTICS[final_relu]
    # A mean near 0 is compared on the scale of the standard deviation.
    scales = (max(abs(expected[0]), 0.1 * expected[1]), *expected[1:])
    if any(abs(m - e) > SMOKE_TOLERANCE * s for m, e, s in zip(measured, expected, scales, strict=True)):
        measured_text, expected_text = (
            ", ".join(f"{value:.4g}" for value in values) for values in (measured, expected)
        )
        raise UserError(
            "the VGGish weights do not give the reference's figures for a 1 kHz sine: mean and deviation of "
            f"the embedding, then post-processed, are {measured_text}, should be {expected_text} within 10 %"
        )


class VGGishConfig(Section):
    """The section ``vggish`` of params.yaml."""

    weights: Literal["audioset", "random"] = "random"
    """``audioset``: the published network, downloaded or read from the two files below."""
    checkpoint: str | None = None
    """vggish_model.ckpt, relative to the project."""
    pca: str | None = None
    """vggish_pca_params.npz, relative to the project."""
    seed: Seed = 2019
    """Seed of random weights."""
    final_relu: bool = True
    """Apply ReLU after the last layer, as in the 2019 release; the later release does not."""
    precision: Precision = "float32"
    """Precision of the matrix products; "bfloat16" needs a GPU or a CPU with AVX-512 BF16 or AMX."""

    @model_validator(mode="after")
    def _both_files(self) -> "VGGishConfig":
        """Check that both files are given, or neither."""
        if (self.checkpoint is None) != (self.pca is None):
            raise ValueError("checkpoint and pca go together: give both files, or neither to download them")
        return self


def prepare(folder: Path, settings: VGGishConfig, fetch_file: FetchFile) -> dict[str, Any]:
    """Write the weights that params.yaml selects; return the description of the network."""
    if settings.weights == "random":
        variables = draw_random_variables(settings.seed, final_relu=settings.final_relu)
    else:
        custom_files = settings.checkpoint is not None
        if custom_files:
            files = [fetch_file(source) for source in (settings.checkpoint, settings.pca)]
        else:
            files = [fetch_file(url, checksum=f"sha256:{checksum}") for url, checksum in RELEASED.items()]
        variables = read_checkpoint(*files)
        try:
            check_reference_statistics(variables, final_relu=settings.final_relu)
        except UserError as error:
            if not custom_files:
                raise
            log.warning("warning: %s", error)
    identity = save_weights(folder, variables, weights=settings.weights)
    return identity | {"final_relu": settings.final_relu, "precision": settings.precision}


def save_weights(folder: Path, variables: dict[str, np.ndarray], *, weights: str) -> dict[str, str]:
    """Write the variables; return their name and digest."""
    write_tensors(folder / WEIGHTS_FILE, {name: torch.from_numpy(array) for name, array in variables.items()})
    return {"weights": weights, "sha256": file_digest(folder / WEIGHTS_FILE)}


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Read the variables that `save_weights` wrote."""
    path = folder / WEIGHTS_FILE
    try:
        variables = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the stage weights@vggish makes it") from None
    except SafetensorError as error:
        raise UserError(
            f"{path}: damaged ({error}); delete it and run the stage weights@vggish again"
        ) from None
    _check_shapes(path, variables, variable_shapes() | PCA_SHAPES)
    return variables


def _check_shapes(path: Path, arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that all variables are present with the expected shapes."""
    problems = [f"{name} is missing" for name in shapes if name not in arrays]
    problems += [
        f"{name} has shape {array.shape}, should have {shapes[name]}"
        for name, array in arrays.items()
        if name in shapes and array.shape != shapes[name]
    ]
    if problems:
        raise UserError(f"{path}: not the VGGish model:\n{bullet_list(problems)}")


def _calibration_patches(rng: np.random.Generator) -> np.ndarray:
    """Draw log-mel patches that resemble real sound: random level, slope, bands and onsets."""
    n = CALIBRATION_EXAMPLES
    band = np.linspace(-1, 1, MEL_BANDS)
    patches = rng.uniform(-4, 1, (n, 1, 1)) + rng.normal(0, 1, (n, 1, 1)) * band
    patches = patches + rng.normal(0, 0.7, (n, 1, MEL_BANDS)) + rng.normal(0, 0.7, (n, EXAMPLE_FRAMES, 1))
    patches = patches + rng.normal(0, 0.3, (n, EXAMPLE_FRAMES, MEL_BANDS))
    return np.maximum(patches, np.log(0.01)).astype(np.float32)


NETWORK = Network(VGGishConfig, prepare)
