"""VGGish against an independent TensorFlow/Keras build from the same V1 checkpoint."""

import os

import numpy as np
import pytest
import resampy
import torch
from conftest import checkpoint_variables

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from ust.features.vggish.embedding import dequantise, postprocess
from ust.features.vggish.network import Embedder, log_mel_patches
from ust.features.vggish.weights import (
    check_reference_statistics,
    draw_random_variables,
    load_weights,
    read_checkpoint,
    save_weights,
    variable_shapes,
)
from ust.util.errors import UserError

RATE = 44_100
CHECKPOINT, PCA = "vggish_model.ckpt", "vggish_pca_params.npz"
# Published names, in the order of the layers.
NAMES = ["conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2"]
NAMES += ["fc1/fc1_1", "fc1/fc1_2", "fc2"]


@pytest.fixture(scope="module")
def released(tf, tmp_path_factory):
    """A checkpoint and a PCA file in the released format, with seeded values."""
    folder = tmp_path_factory.mktemp("vggish")
    rng = np.random.default_rng(5)
    arrays = {}
    for name, shape in variable_shapes().items():
        scale = np.sqrt(2 / np.prod(shape[:-1])) if name.endswith("weights") else 0.1
        arrays[name] = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
    checkpoint_variables(tf, arrays, folder / CHECKPOINT)
    eigen = (np.linalg.qr(rng.standard_normal((128, 128)))[0] * 0.3).astype(np.float32)
    means = rng.standard_normal((128, 1)).astype(np.float32)
    np.savez(folder / PCA, pca_eigen_vectors=eigen, pca_means=means)
    return folder / CHECKPOINT, folder / PCA


@pytest.fixture(scope="module")
def variables(released):
    return read_checkpoint(*released)


def keras_vggish(tf, checkpoint, final_relu):
    """The network in Keras, with weights from the checkpoint."""
    reader = tf.compat.v1.train.NewCheckpointReader(str(checkpoint))
    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input((96, 64, 1))])
    filters = [64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool"]
    for f in filters:
        if f == "pool":
            model.add(layers.MaxPool2D(2, 2, padding="same"))
        else:
            model.add(layers.Conv2D(f, 3, padding="same", activation="relu"))
    model.add(layers.Flatten())
    model.add(layers.Dense(4096, activation="relu"))
    model.add(layers.Dense(4096, activation="relu"))
    model.add(layers.Dense(128, activation="relu" if final_relu else None))
    with_weights = [layer for layer in model.layers if layer.weights]
    for layer, name in zip(with_weights, NAMES, strict=True):
        layer.set_weights([reader.get_tensor(f"vggish/{name}/{part}") for part in ("weights", "biases")])
    return model


def tf_log_mel(tf, samples):
    """Log-mel patches with TensorFlow's own STFT and HTK mel matrix, in double precision."""
    stft = tf.signal.stft(samples[None].astype(np.float64), 400, 160, 512)
    mel = tf.signal.linear_to_mel_weight_matrix(64, 257, 16_000, 125.0, 7500.0, dtype=tf.float64)
    log_mel = tf.math.log(tf.abs(stft) @ mel + 0.01).numpy()[0]
    count = len(log_mel) // 96
    return log_mel[: count * 96].reshape(count, 96, 64)


@pytest.fixture(scope="module")
def sound():
    """Ten seconds of sweeping tones in noise."""
    t = np.arange(10 * RATE) / RATE
    rng = np.random.default_rng(2)
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t) + 0.05 * rng.standard_normal(len(t))).astype(
        np.float32
    )


def test_log_mel_matches_tensorflow(tf, sound):
    found = log_mel_patches(sound, RATE)
    assert found.shape == (10, 96, 64)
    wanted = tf_log_mel(tf, resampy.resample(sound, RATE, 16_000, filter="kaiser_best"))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_incomplete_last_frame_is_dropped(sound):
    assert log_mel_patches(sound[: int(2.5 * RATE)], RATE).shape == (2, 96, 64)
    assert log_mel_patches(sound[:100], RATE).shape == (0, 96, 64)


@pytest.mark.parametrize("final_relu", [True, False])
def test_embeddings_match_keras(tf, released, variables, sound, final_relu):
    patches = log_mel_patches(sound, RATE)
    embedder = Embedder(variables, final_relu=final_relu, device=torch.device("cpu"))
    found = embedder.embed(patches)
    wanted = keras_vggish(tf, released[0], final_relu)(patches[..., None]).numpy()
    assert np.abs(wanted).max() > 0.5
    assert (wanted.min() >= 0) == final_relu
    np.testing.assert_allclose(found, wanted, atol=1e-4)

    with np.load(released[1]) as pca:
        vectors, means = pca["pca_eigen_vectors"], pca["pca_means"]
    whitened = np.stack([vectors @ (row - means[:, 0]) for row in wanted])
    steps = np.floor((np.clip(whitened, -2, 2) + 2) / 4 * 255)
    quantised = embedder(patches)
    assert quantised.dtype == np.uint8
    assert np.abs(quantised - steps).max() <= 1
    assert quantised.std() > 10


def test_quantization_matches_computation_by_hand():
    identity, zeros = np.eye(4), np.zeros((4, 1))
    found = postprocess(np.array([[-3.0, -2.0, 0.0, 1.999], [2.5] * 4]), identity, zeros)
    assert found.tolist() == [[0, 0, 127, 254], [255] * 4]
    vectors = np.array([[0.0, 1.0], [0.5, 0.0]])  # the means are subtracted first
    found = postprocess(np.array([[3.0, 1.5]]), vectors, np.array([1.0, 1.0]))
    assert found.tolist() == [[int(2.5 * 255 / 4), int(3 * 255 / 4)]]
    back = dequantise(torch.tensor([0, 127, 255], dtype=torch.uint8))
    assert back.tolist() == pytest.approx([-2, -0.00784, 2], abs=1e-4)


def test_weights_round_trip(tmp_path, variables):
    first, again = (save_weights(tmp_path / name, variables, weights="audioset") for name in "ab")
    assert first == again
    assert first["weights"] == "audioset"
    name = "weights.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = load_weights(tmp_path / "a")
    for name, array in variables.items():
        np.testing.assert_array_equal(loaded[name], array)
    path = tmp_path / "a" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(UserError, match="damaged"):
        load_weights(tmp_path / "a")
    with pytest.raises(UserError, match="the stage weights@vggish makes it"):
        load_weights(tmp_path / "nowhere")


def test_smoke_test_rejects_other_weights(variables):
    with pytest.raises(UserError, match="do not give the reference's figures"):
        check_reference_statistics(variables, final_relu=True)


def test_random_weights_are_seeded_and_embeddings_vary(sound):
    first, again = (draw_random_variables(3, final_relu=True) for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    quantised = Embedder(first, final_relu=True, device=torch.device("cpu"))(log_mel_patches(sound, RATE))
    assert quantised.std() > 20
    assert 60 < quantised.mean() < 195


def write_wrong_shape(path, original):
    arrays = {"conv1/weights": np.zeros((3, 3, 1, 7), np.float32)}
    checkpoint_variables(pytest.importorskip("tensorflow"), arrays, path)


def write_pca(vectors):
    return lambda path, original: np.savez(path, pca_eigen_vectors=vectors, pca_means=np.zeros(128))


@pytest.mark.parametrize(
    ("file", "write", "message"),
    [
        (CHECKPOINT, lambda path, original: None, "no such file"),
        (
            CHECKPOINT,
            lambda path, original: path.write_bytes(original.read_bytes()[:100_000]),
            "not a readable",
        ),
        (
            CHECKPOINT,
            lambda path, original: path.write_text("weights"),
            "not a readable TensorFlow checkpoint",
        ),
        (CHECKPOINT, write_wrong_shape, "conv1/weights has shape (3, 3, 1, 7), should have (3, 3, 1, 64)"),
        (CHECKPOINT, write_wrong_shape, "fc2/biases is missing"),
        (PCA, write_pca(np.array([{}], object)), "not a readable npz file"),
        (PCA, write_pca(np.zeros((3, 3))), "pca_eigen_vectors has shape (3, 3)"),
    ],
    ids=["missing", "cut", "text", "shape", "variable", "pickle", "pca-shape"],
)
def test_damaged_checkpoint_names_file_and_variable(released, tmp_path, file, write, message):
    paths = [tmp_path / path.name for path in released]
    for path, original in zip(paths, released, strict=True):
        if path.name == file:
            write(path, original)
        else:
            path.symlink_to(original)
    with pytest.raises(UserError) as error:
        read_checkpoint(*paths)
    assert str(tmp_path / file) in str(error.value)
    assert message in str(error.value)


def test_bfloat16_embeddings_are_close_to_float32(variables, noise):
    patches = log_mel_patches(noise, RATE)
    cpu = torch.device("cpu")
    full, half = (
        Embedder(variables, final_relu=True, device=cpu, precision=precision)(patches).astype(int)
        for precision in ("float32", "bfloat16")
    )
    assert (full != half).any()
    assert np.abs(full - half).mean() < 3  # of 255 steps


@pytest.mark.parametrize("name", ["vggish_1khz_sine_frame0", "vggish_1khz_16k_current_code"])
def test_published_pca_matches_published_embeddings(published, name):
    """The input is a 1 kHz sine, embedded by the network of 2019 and by the later one."""
    with np.load(published / PCA) as pca, np.load(published / f"{name}.npz") as reference:
        vectors, means = (pca[key].astype(np.float32) for key in ("pca_eigen_vectors", "pca_means"))
        found = postprocess(reference["raw"].astype(np.float32)[None], vectors, means)
        assert found[0].tolist() == reference["post"].tolist()
        # In double precision, as they are stored, the same.
        again = postprocess(reference["raw"][None], pca["pca_eigen_vectors"], pca["pca_means"])
        assert again[0].tolist() == reference["post"].tolist()
