"""Where VGGish's weights come from: the AudioSet checkpoint, or a seed."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ust.features.feature import FetchFile
from ust.features.vggish.embedding import EMBEDDING, postprocess
from ust.features.vggish.network import (
    CONVOLUTIONS,
    EXAMPLE_FRAMES,
    LINEARS,
    MEL_BANDS,
    Embedder,
    empty_network,
    examples,
)
from ust.util.digests import file_digest
from ust.util.errors import UserError, bullet_list
from ust.util.seeding import fill_normal, random_stream
from ust.util.tensors import write_tensors

log = logging.getLogger("ust")
# The checkpoint and the PCA that AudioSet's authors released, and the SHA-256 of each.
RELEASED = {
    "https://storage.googleapis.com/audioset/vggish_model.ckpt":
        "0962b1914e3e053922d957c45bc84a78c985765641dc6bceeeb3a7d8dfecfdf6",
    "https://storage.googleapis.com/audioset/vggish_pca_params.npz":
        "4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
}  # fmt: skip
WEIGHTS_FILE = "weights.safetensors"
PCA_SHAPES = {"pca_eigen_vectors": (EMBEDDING, EMBEDDING), "pca_means": (EMBEDDING,)}
CALIBRATION_EXAMPLES = 64

# Embedding mean and standard deviation, then post-processed, of three seconds of a 1 kHz sine at 44.1 kHz,
# from the reference's own smoke test of either release.
SMOKE_FIGURES = {True: (0.131, 0.238, 123.0, 75.0), False: (0.000657, 0.343, 126.0, 89.3)}
SMOKE_TOLERANCE = 0.1

HOW_TO_GET = (
    "vggish.checkpoint and vggish.pca name the two files that AudioSet's authors released; leave both null "
    "to download them, or set vggish.weights to random: an untrained network, enough to try the pipeline, "
    "not to reproduce the report"
)


def variable_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every variable of the checkpoint, without its ``vggish/`` prefix."""
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
        `variable_shapes` and ``pca_eigen_vectors`` (128, 128), ``pca_means`` (128,).

    Raises
    ------
    UserError
        If a file is missing or unreadable, or a variable is missing or misshapen.
    """
    import tensorflow as tf  # takes seconds to import and is needed for this alone

    for path in (checkpoint, pca):
        if not path.is_file():
            raise UserError(f"{path}: no such file; {HOW_TO_GET}")
    try:
        with np.load(pca, allow_pickle=False) as file:
            parameters = {name: file[name] for name in PCA_SHAPES if name in file.files}
    except Exception as error:  # a dozen kinds: NumPy's, zipfile's, zlib's and the tokenizer's own
        raise UserError(f"{pca}: not a readable npz file: {' '.join(str(error).split())[:200]}") from None
    if "pca_means" in parameters:
        parameters["pca_means"] = parameters["pca_means"].reshape(-1)
    _check_shapes(pca, parameters, PCA_SHAPES)
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        found = {name.removeprefix("vggish/"): name for name in reader.get_variable_to_shape_map()}
        arrays = {name: reader.get_tensor(found[name]) for name in variable_shapes() if name in found}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{checkpoint}: not a readable TensorFlow checkpoint: {reason}") from None
    _check_shapes(checkpoint, arrays, variable_shapes())
    return {name: np.ascontiguousarray(array, np.float32) for name, array in (arrays | parameters).items()}


def random_variables(seed: int, *, final_relu: bool) -> dict[str, np.ndarray]:
    """Seeded weights, the same on every processor: a random network whose embeddings keep their variance.

    He-normal weights and zero biases; instead of a PCA, each embedding dimension is centred and scaled to
    unit variance over seeded noise patches, so that quantisation keeps what there is.
    """
    variables = {name: np.zeros(shape, np.float32) for name, shape in variable_shapes().items()}
    for name, values in variables.items():
        if name.endswith("/weights"):
            deviation = math.sqrt(2 / math.prod(values.shape[:-1]))
            fill_normal(values, deviation, random_stream(seed, "vggish", name))
    # In double precision: sums in another order, as another processor makes them, round to the same float32.
    network = empty_network(final_relu=final_relu)
    network.load_variables(variables)
    patches = torch.from_numpy(_calibration_patches(random_stream(seed, "vggish", "patches"))).double()
    with torch.inference_mode():
        embeddings = torch.cat([network.double()(some) for some in patches.split(16)]).numpy()
    deviation = embeddings.std(axis=0)
    alive = deviation > 1e-6 * deviation.max()
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=alive)
    means = embeddings.mean(axis=0)
    return variables | {
        "pca_eigen_vectors": np.diag(scale).astype(np.float32), "pca_means": means.astype(np.float32)
    }  # fmt: skip


def check_smoke_figures(variables: dict[str, np.ndarray], *, final_relu: bool) -> None:
    """Compare with the reference's smoke test, which files of one's own should pass, too.

    Raises
    ------
    UserError
        If a figure is off by more than 10 %.
    """
    seconds, rate = 3, 44_100
    sine = np.sin(2 * np.pi * 1000 * np.arange(seconds * rate) / rate)
    embeddings = _embed(variables, examples(sine, rate), final_relu=final_relu)
    quantised = postprocess(embeddings, variables["pca_eigen_vectors"], variables["pca_means"])
    found = (embeddings.mean(), embeddings.std(), quantised.mean(), quantised.std())
    wanted = SMOKE_FIGURES[final_relu]
    # A mean near 0 can only be compared on the scale of the deviation.
    scales = (max(abs(wanted[0]), 0.1 * wanted[1]), *wanted[1:])
    if any(abs(f - w) > SMOKE_TOLERANCE * s for f, w, s in zip(found, wanted, scales, strict=True)):
        given, expected = (", ".join(f"{value:.4g}" for value in values) for values in (found, wanted))
        raise UserError(
            "the VGGish weights do not give the reference's figures for a 1 kHz sine: mean and deviation of "
            f"the embedding, then post-processed, are {given}, should be {expected} within 10 %"
        )


def prepare(folder: Path, settings: Any, bring: FetchFile) -> dict[str, str]:
    """Write the weights that params.yaml asks for.

    Parameters
    ----------
    folder : Path
    settings : ust.features.vggish.feature.VGGish
    bring : Bring

    Returns
    -------
    dict
        ``weights`` and ``sha256``.

    Raises
    ------
    UserError
        As `read_checkpoint` and, of downloaded files, `check_smoke_figures`.
    """
    if settings.weights == "random":
        variables = random_variables(settings.seed, final_relu=settings.final_relu)
    else:
        own = settings.checkpoint is not None
        if own:
            files = [bring(source) for source in (settings.checkpoint, settings.pca)]
        else:
            files = [bring(url, checksum=f"sha256:{checksum}") for url, checksum in RELEASED.items()]
        variables = read_checkpoint(*files)
        try:
            check_smoke_figures(variables, final_relu=settings.final_relu)
        except UserError as error:
            if not own:
                raise
            log.warning("warning: %s", error)
    return save_weights(folder, variables, weights=settings.weights)


def save_weights(folder: Path, variables: dict[str, np.ndarray], *, weights: str) -> dict[str, str]:
    """Write the variables; what they are."""
    write_tensors(folder / WEIGHTS_FILE, {name: torch.from_numpy(array) for name, array in variables.items()})
    return {"weights": weights, "sha256": file_digest(folder / WEIGHTS_FILE)}


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Read the variables that `save_weights` wrote.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
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
    problems = [f"{name} is missing" for name in shapes if name not in arrays]
    problems += [
        f"{name} has shape {array.shape}, should have {shapes[name]}"
        for name, array in arrays.items()
        if name in shapes and array.shape != shapes[name]
    ]
    if problems:
        raise UserError(f"{path}: not the VGGish model:\n{bullet_list(problems)}")


def _embed(variables: dict[str, np.ndarray], patches: np.ndarray, *, final_relu: bool) -> np.ndarray:
    identity = {"pca_eigen_vectors": np.eye(EMBEDDING), "pca_means": np.zeros(EMBEDDING)}
    embedder = Embedder(identity | variables, final_relu=final_relu, device=torch.device("cpu"))
    return np.concatenate([embedder.embed(patches[i : i + 32]) for i in range(0, len(patches), 32)])


def _calibration_patches(rng: np.random.Generator) -> np.ndarray:
    """Log-mel patches like those of real sound: a random slope and level, bands and onsets on top."""
    n = CALIBRATION_EXAMPLES
    band = np.linspace(-1, 1, MEL_BANDS)
    patches = rng.uniform(-4, 1, (n, 1, 1)) + rng.normal(0, 1, (n, 1, 1)) * band
    patches = patches + rng.normal(0, 0.7, (n, 1, MEL_BANDS)) + rng.normal(0, 0.7, (n, EXAMPLE_FRAMES, 1))
    patches = patches + rng.normal(0, 0.3, (n, EXAMPLE_FRAMES, MEL_BANDS))
    return np.maximum(patches, np.log(0.01)).astype(np.float32)
