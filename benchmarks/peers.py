"""The steps as users of common libraries would write them: TensorFlow, resampy, librosa, NumPy."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import joblib
import librosa
import numpy as np
import resampy
import soundfile as sf

from ust.features import mn_logmel as mn
from ust.features.vggish.embedding import postprocess
from ust.features.vggish.network import (
    CONVOLUTIONS,
    EXAMPLE_FRAMES,
    FFT,
    HOP,
    LINEARS,
    LOG_OFFSET,
    WINDOW,
    mel_filter_bank,
)


def keras_vggish(variables: dict[str, np.ndarray]):
    """Build VGGish as a Keras model with weights."""
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input((96, 64, 1))])
    for group in CONVOLUTIONS:
        for _, _, filters in group:
            model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPool2D(2, 2, padding="same"))
    model.add(layers.Flatten())
    for _, _, units in LINEARS:
        model.add(layers.Dense(units, activation="relu"))
    names = [name for group in CONVOLUTIONS for name, _, _ in group] + [name for name, _, _ in LINEARS]
    weighted = [layer for layer in model.layers if layer.weights]
    for layer, name in zip(weighted, names, strict=True):
        layer.set_weights([variables[f"{name}/weights"], variables[f"{name}/biases"]])
    return model


def vggish_input(samples: np.ndarray, rate: int) -> np.ndarray:
    """Compute VGGish's input patches with resampy and NumPy, as its released code does."""
    samples = resampy.resample(samples, rate, 16_000, filter="kaiser_best")
    frames = 1 + (len(samples) - WINDOW) // HOP
    index = np.arange(WINDOW)[None] + HOP * np.arange(frames)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * np.arange(WINDOW))
    log_mel = np.log(np.abs(np.fft.rfft(samples[index] * window, FFT)) @ mel_filter_bank() + LOG_OFFSET)
    count = frames // EXAMPLE_FRAMES
    return log_mel[: count * EXAMPLE_FRAMES].reshape(count, EXAMPLE_FRAMES, -1).astype(np.float32)


def mn_log_mel(samples: np.ndarray) -> np.ndarray:
    """Compute EfficientAT's log-mel spectrogram with NumPy, as its released code does."""
    emphasised = samples[1:] - np.float32(mn.PRE_EMPHASIS) * samples[:-1]
    padded = np.pad(emphasised, mn.FFT // 2, mode="reflect")
    before = (mn.FFT - mn.WINDOW) // 2
    frames = np.lib.stride_tricks.sliding_window_view(padded, mn.FFT)[:: mn.HOP, before : before + mn.WINDOW]
    power = np.abs(np.fft.rfft(frames * np.hanning(mn.WINDOW).astype(np.float32), mn.FFT)) ** 2
    return ((np.log(mn.mel_filter_bank() @ power.T + mn.OFFSET) + mn.SHIFT) / mn.SCALE).astype(np.float32)


def logmel(samples: np.ndarray, rate: int) -> np.ndarray:
    """Compute a log-mel spectrogram with librosa's defaults."""
    return librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate), ref=np.max)


def extract(paths: list[Path], model, pca: tuple[np.ndarray, np.ndarray], folder: Path) -> None:
    """Extract log-mels and VGGish embeddings clip by clip, and save them as one pickle per clip."""
    for path in paths:
        samples, rate = sf.read(path)
        embeddings = np.asarray(model(vggish_input(samples, rate)[..., None], training=False))
        joblib.dump(
            {"logmel": logmel(samples, rate), "vggish": postprocess(embeddings, *pca)}, folder / path.stem
        )
