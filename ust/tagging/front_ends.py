"""Feature front ends as PyTorch modules that can be exported: from waveforms to features."""

from collections.abc import Callable
from math import gcd
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ust.audio.recordings import CLIP_SECONDS, SAMPLE_RATE
from ust.audio.resampling import MAX_PHASES, MIN_PHASES, polyphase_weights
from ust.features import mn_logmel as mn
from ust.features.efficientat.feature import load_folded_network
from ust.features.efficientat.windows import window_max_pool
from ust.features.vggish.embedding import QUANTISE_RANGE
from ust.features.vggish.network import (
    EXAMPLE_FRAMES,
    FFT,
    HOP,
    LOG_OFFSET,
    MEL_BANDS,
    WINDOW,
    VGGish,
    mel_filter_bank,
)
from ust.features.vggish.network import SAMPLE_RATE as VGGISH_RATE
from ust.features.vggish.weights import load_weights
from ust.util.errors import UserError

SAMPLES = CLIP_SECONDS * SAMPLE_RATE


class Resample(nn.Module):
    """Resample clips (batch, samples) like `ust.audio.resampling.resample`, by a strided convolution."""

    def __init__(self, original: int, target: int) -> None:
        super().__init__()
        divisor = gcd(original, target)
        up, down = target // divisor, original // divisor
        if target > original or up > MAX_PHASES or down > 2 * MAX_PHASES:
            raise UserError(f"a system that resamples from {original} to {target} Hz cannot be exported")
        repeat = -(-MIN_PHASES // up)  # several periods of the polyphase filter bank in one step
        weights, reach = polyphase_weights(up * repeat, down * repeat)
        self.stride, self.length = down * repeat, SAMPLES * target // original
        blocks = -(-self.length // (up * repeat))  # each gives up * repeat output samples
        self.padding = reach, (blocks - 1) * self.stride + weights.shape[1] - reach - SAMPLES
        self.register_buffer("weight", torch.from_numpy(weights)[:, None])

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(waveform, self.padding).unsqueeze(1)
        phases = functional.conv1d(padded, self.weight, stride=self.stride)
        return phases.transpose(1, 2).flatten(1)[:, : self.length]


class LogMel(nn.Module):
    """Compute `ust.features.logmel.logmel` of clips (batch, samples), rounded to half precision as stored."""

    def __init__(self, *, sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> None:
        super().__init__()
        self.resample = nn.Identity() if sample_rate == SAMPLE_RATE else Resample(SAMPLE_RATE, sample_rate)
        self.n_fft, self.hop_length = n_fft, hop_length
        self.register_buffer("window", torch.hann_window(n_fft))
        mel = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
        self.register_buffer("mel", torch.from_numpy(mel))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(
            self.resample(waveform), self.n_fft, self.hop_length, window=self.window,
            pad_mode="constant", return_complex=True,
        )  # fmt: skip
        power = torch.view_as_real(spectrum).square().sum(-1)
        level = 10 * torch.log10((self.mel @ power).clamp_min(1e-10))
        return (level - level.amax(dim=(1, 2), keepdim=True)).clamp_min(-80).half().float()


class VGGishEmbedding(nn.Module):
    """Compute quantised VGGish embeddings (batch, 10, 128) of clips (batch, samples).

    Same patches, network and post-processing as `ust.features.vggish`.
    """

    def __init__(self, variables: dict[str, np.ndarray], *, final_relu: bool) -> None:
        super().__init__()
        self.resample = Resample(SAMPLE_RATE, VGGISH_RATE)
        self.network = VGGish(final_relu=final_relu)
        self.network.load_variables(variables)
        # Double precision as in NumPy, as truncation to 8 bits turns rounding errors into whole steps.
        angle = 2 * np.pi / FFT * np.outer(np.arange(WINDOW), np.arange(FFT // 2 + 1))
        window = torch.hann_window(WINDOW, dtype=torch.float64).unsqueeze(1)
        self.register_buffer("real", window * torch.from_numpy(np.cos(angle)))
        self.register_buffer("imaginary", window * torch.from_numpy(np.sin(angle)))
        self.register_buffer("mel", torch.from_numpy(mel_filter_bank()))
        self.register_buffer("vectors", torch.from_numpy(variables["pca_eigen_vectors"]))
        self.register_buffer("means", torch.from_numpy(variables["pca_means"]).reshape(1, -1))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        frames = self.resample(waveform).unfold(1, WINDOW, HOP)
        count = frames.shape[1] // EXAMPLE_FRAMES
        frames = frames[:, : count * EXAMPLE_FRAMES].double()
        magnitude = ((frames @ self.real).square() + (frames @ self.imaginary).square()).sqrt()
        patches = torch.log(magnitude @ self.mel + LOG_OFFSET).float()
        embeddings = self.network(patches.reshape(-1, EXAMPLE_FRAMES, MEL_BANDS))
        low, high = QUANTISE_RANGE
        whitened = ((embeddings - self.means) @ self.vectors.T).clamp(low, high)
        quantised = ((whitened - low) * (255 / (high - low))).floor()
        return quantised.reshape(-1, count, quantised.shape[-1])


class MobileNetLogMel(nn.Module):
    """Compute `ust.features.mn_logmel.log_mel` of clips (batch, samples)."""

    def __init__(self) -> None:
        super().__init__()
        self.resample = Resample(SAMPLE_RATE, mn.SAMPLE_RATE)
        self.register_buffer("window", torch.hann_window(mn.WINDOW, periodic=False))
        self.register_buffer("mel", torch.from_numpy(mn.mel_filter_bank()))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        samples = self.resample(waveform)
        emphasised = samples[:, 1:] - mn.PRE_EMPHASIS * samples[:, :-1]
        padded = functional.pad(emphasised[:, None], [mn.FFT // 2] * 2, mode="reflect")[:, 0]
        spectrum = torch.stft(
            padded, mn.FFT, mn.HOP, mn.WINDOW, window=self.window, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (torch.log(self.mel @ power + mn.OFFSET) + mn.SHIFT) / mn.SCALE


class MobileNetEmbedding(nn.Module):
    """Compute EfficientAT embeddings of clips (batch, samples), as `ust.features.efficientat.feature`."""

    def __init__(self, folder: Path, *, weights: str, frames: bool) -> None:
        super().__init__()
        self.log_mel, self.frames = MobileNetLogMel(), frames
        self.network = load_folded_network(folder, weights)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        maps = self.network.feature_maps(self.log_mel(waveform))
        return maps.mean(dim=2).transpose(1, 2) if self.frames else maps.mean(dim=(2, 3))


class MobileNetWindowMax(nn.Module):
    """Compute clip embeddings and maxima over windows, as `ust.features.efficientat.windows`."""

    def __init__(self, folder: Path, *, weights: str, windows: int) -> None:
        super().__init__()
        self.log_mel, self.windows = MobileNetLogMel(), windows
        self.network = load_folded_network(folder, weights)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return window_max_pool(self.network, self.log_mel(waveform), self.windows)


class RoundToHalf(nn.Module):
    """Round values to half precision, in which features are stored."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.half().float()


# For each kind of feature, a function from its network's folder and its extraction settings to a module.
FRONT_ENDS: dict[str, Callable[[Path, Any], nn.Module]] = {
    "logmel": lambda _, config: LogMel(**config.model_dump()),
    "vggish": lambda folder, config: VGGishEmbedding(load_weights(folder), final_relu=config.final_relu),
    "mn": lambda folder, config: MobileNetEmbedding(folder, weights=config.weights, frames=config.frames),
    "mn_windows": lambda folder, config: MobileNetWindowMax(
        folder, weights=config.weights, windows=config.windows
    ),
    "mn_logmel": lambda *_: nn.Sequential(MobileNetLogMel(), RoundToHalf()),
}
