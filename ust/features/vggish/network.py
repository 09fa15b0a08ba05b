"""The VGGish network of the 2019 release and its log-mel input."""

from functools import cache

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import nn

from ust.audio.resampling import resample
from ust.features.mel import htk_mel_filter_bank, mel_spectrogram
from ust.features.vggish.embedding import EMBEDDING, postprocess
from ust.util.accelerate import accelerate

SAMPLE_RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512
MEL_BANDS, MEL_LOW, MEL_HIGH = 64, 125.0, 7500.0
LOG_OFFSET = 0.01
EXAMPLE_FRAMES = 96

# Convolutions (in, out) by the checkpoint's names, with a 2×2 max pool after each group.
CONVOLUTIONS = (
    (("conv1", 1, 64),),
    (("conv2", 64, 128),),
    (("conv3/conv3_1", 128, 256), ("conv3/conv3_2", 256, 256)),
    (("conv4/conv4_1", 256, 512), ("conv4/conv4_2", 512, 512)),
)
LINEARS = (("fc1/fc1_1", 6 * 4 * 512, 4096), ("fc1/fc1_2", 4096, 4096), ("fc2", 4096, EMBEDDING))


def log_mel_patches(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Compute the network's input: consecutive log-mel patches of 0.96 s.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,)]
        Mono.
    sample_rate : int
        Hz; resampled to 16 kHz by resampy if different.

    Returns
    -------
    numpy.ndarray [shape=(n_examples, 96, 64), float32]
        log(mel magnitude + 0.01) of frames of 10 ms and HTK mel bands. An incomplete last patch is dropped.
    """
    samples = resample(samples, sample_rate, SAMPLE_RATE)
    if len(samples) < WINDOW:
        return np.zeros((0, EXAMPLE_FRAMES, MEL_BANDS), np.float32)
    magnitudes = mel_spectrogram(
        samples, hann_window(), sparse_mel_filter_bank(), n_fft=FFT, hop_length=HOP, power=1
    )
    log_mel = np.log(magnitudes.T + np.float32(LOG_OFFSET))
    count = len(log_mel) // EXAMPLE_FRAMES
    return log_mel[: count * EXAMPLE_FRAMES].reshape(count, EXAMPLE_FRAMES, MEL_BANDS)


@cache
def hann_window() -> np.ndarray:
    """Return the periodic Hann window in single precision."""
    return (0.5 - 0.5 * np.cos(2 * np.pi / WINDOW * np.arange(WINDOW))).astype(np.float32)


@cache
def sparse_mel_filter_bank() -> csr_array:
    """Return the transpose of `mel_filter_bank` as a sparse matrix."""
    return csr_array(mel_filter_bank().T.astype(np.float32))


def mel_filter_bank() -> np.ndarray:
    """Return HTK's mel filter bank from 125 to 7500 Hz [shape=(257, 64), float64]."""
    return np.ascontiguousarray(
        htk_mel_filter_bank(SAMPLE_RATE, FFT, MEL_BANDS, low=MEL_LOW, high=MEL_HIGH).T
    )


class VGGish(nn.Module):
    """The VGGish network; parameters have the checkpoint's names with ``/`` replaced by ``.``.

    Parameters
    ----------
    final_relu : bool
        Rectify the embedding: True for the 2019 release, False for the later one.
    """

    def __init__(self, *, final_relu: bool = True) -> None:
        super().__init__()
        self.final_relu = final_relu
        groups = [[nn.Conv2d(i, o, 3, padding=1) for _, i, o in group] for group in CONVOLUTIONS]
        self.convolutions = nn.ModuleList(nn.ModuleList(group) for group in groups)
        self.linears = nn.ModuleList(nn.Linear(i, o) for _, i, o in LINEARS)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Embed patches of shape (n, 96, 64) as (n, 128), before post-processing."""
        x = patches.unsqueeze(1)
        for group in self.convolutions:
            for convolution in group:
                x = torch.relu(convolution(x))
            x = torch.max_pool2d(x, 2)
        # TensorFlow flattens (height, width, channel).
        x = x.permute(0, 2, 3, 1).flatten(1)
        for index, linear in enumerate(self.linears):
            x = linear(x)
            if self.final_relu or index < len(self.linears) - 1:
                x = torch.relu(x)
        return x

    def load_variables(self, variables: dict[str, np.ndarray]) -> None:
        """Set the weights from arrays with the checkpoint's names and layout."""
        modules = [module for group in self.convolutions for module in group] + list(self.linears)
        names = [name for group in CONVOLUTIONS for name, _, _ in group] + [name for name, _, _ in LINEARS]
        with torch.no_grad():
            for module, name in zip(modules, names, strict=True):
                weights = torch.from_numpy(variables[f"{name}/weights"])
                # (height, width, in, out) to (out, in, height, width); (in, out) to (out, in)
                order = (3, 2, 0, 1) if weights.ndim == 4 else (1, 0)
                module.weight.copy_(weights.permute(order))
                module.bias.copy_(torch.from_numpy(variables[f"{name}/biases"]))


def build_empty_network(*, final_relu: bool) -> VGGish:
    """Build the network with uninitialised weights; random ones would take half a second."""
    with torch.device("meta"):
        network = VGGish(final_relu=final_relu)
    return network.to_empty(device="cpu")


class Embedder:
    """VGGish with weights and post-processing: embeds patches and quantises the embeddings.

    Parameters
    ----------
    variables : dict of str to numpy.ndarray
        Weights and PCA, as `ust.features.vggish.weights.load_weights` reads them.
    final_relu : bool
        See `VGGish`.
    precision : {"float32", "bfloat16"}
        Precision of the network; its output and the post-processing are always float32.
    """

    def __init__(
        self,
        variables: dict[str, np.ndarray],
        *,
        final_relu: bool,
        device: torch.device,
        precision: str = "float32",
    ) -> None:
        network = build_empty_network(final_relu=final_relu)
        network.load_variables(variables)
        self.network = accelerate(network).to(device)
        self.device, self.use_bfloat16 = device, precision == "bfloat16"
        self.pca = variables["pca_eigen_vectors"], variables["pca_means"]

    def embed(self, patches: np.ndarray) -> np.ndarray:
        """Embed patches [shape=(n, 96, 64)] without post-processing [shape=(n, 128), float32]."""
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bfloat16)
        with torch.inference_mode(), autocast:
            return self.network(torch.from_numpy(patches).to(self.device)).float().cpu().numpy()

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """Return quantised embeddings [shape=(n, 128), uint8] of patches [shape=(n, 96, 64)]."""
        return postprocess(self.embed(patches), *self.pca)
