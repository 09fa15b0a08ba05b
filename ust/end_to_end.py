"""A trained system with its front end as one PyTorch module of plain operations, to be exported."""

import copy
from math import gcd

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ust.clips import CLIP_SECONDS, SAMPLE_RATE
from ust.embedding import EMBEDDING, QUANTISE_RANGE
from ust.errors import UserError
from ust.hierarchy import OTHER, ROOT
from ust.layers import StridedConv2d, WinogradConv2d
from ust.resampling import FEWEST_PHASES, MOST_PHASES, polyphase_weights
from ust.systems import Baseline, Flat, Hierarchy, System, pool
from ust.tagger import Tagger
from ust.taxonomy import Taxonomy
from ust.vggish import EXAMPLE_FRAMES, FFT, HOP, LOG_OFFSET, MEL_BANDS, WINDOW, Embedder, mel_matrix
from ust.vggish import SAMPLE_RATE as VGGISH_RATE

SAMPLES = CLIP_SECONDS * SAMPLE_RATE


class Resample(nn.Module):
    """`ust.resampling.resample` of clips (batch, samples), as a strided convolution."""

    def __init__(self, original: int, wanted: int) -> None:
        super().__init__()
        divisor = gcd(original, wanted)
        up, down = wanted // divisor, original // divisor
        if wanted > original or up > MOST_PHASES or down > 2 * MOST_PHASES:
            raise UserError(f"a system that resamples from {original} to {wanted} Hz cannot be exported")
        repeat = -(-FEWEST_PHASES // up)
        weights, reach = polyphase_weights(up * repeat, down * repeat)
        self.stride, self.length = down * repeat, SAMPLES * wanted // original
        blocks = -(-self.length // (up * repeat))
        self.padding = reach, (blocks - 1) * self.stride + weights.shape[1] - reach - SAMPLES
        self.register_buffer("weight", torch.from_numpy(weights)[:, None])

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(waveform, self.padding).unsqueeze(1)
        phases = functional.conv1d(padded, self.weight, stride=self.stride)
        return phases.transpose(1, 2).flatten(1)[:, : self.length]


class LogMel(nn.Module):
    """`ust.logmel.logmel` of clips (batch, samples), in half precision as it is stored."""

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


class Embed(nn.Module):
    """`ust.vggish`'s patches, network and post-processing of clips (batch, samples)."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.resample = Resample(SAMPLE_RATE, VGGISH_RATE)
        self.network = plain(embedder.network)
        # In double precision, as NumPy has it: what comes of it is rounded to 8 bits.
        angle = 2 * np.pi / FFT * np.outer(np.arange(WINDOW), np.arange(FFT // 2 + 1))
        window = torch.hann_window(WINDOW, dtype=torch.float64).unsqueeze(1)
        self.register_buffer("real", window * torch.from_numpy(np.cos(angle)))
        self.register_buffer("imaginary", window * torch.from_numpy(np.sin(angle)))
        self.register_buffer("mel", torch.from_numpy(mel_matrix()))
        vectors, means = embedder.pca
        self.register_buffer("vectors", torch.from_numpy(vectors))
        self.register_buffer("means", torch.from_numpy(means).reshape(1, -1))

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


class FlatHead(nn.Module):
    """`ust.systems.Flat` of features."""

    def __init__(self, system: Flat, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.network, self.labels, self.taxonomy = plain(system.network), system.labels, taxonomy

    def forward(self, logmel: torch.Tensor, vggish: torch.Tensor) -> torch.Tensor:
        return complete(torch.sigmoid(self.network(logmel, vggish)), self.labels, self.taxonomy)


class HierarchyHead(nn.Module):
    """`ust.systems.Hierarchy` of features; every network runs, and the rule chooses among their answers."""

    def __init__(self, system: Hierarchy, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.threshold, self.taxonomy, self.keep = system.threshold, taxonomy, system.keeps(taxonomy)
        self.root, self.labels = plain(system.nodes[ROOT].network), system.nodes[ROOT].labels
        found = {g: system.nodes.get(label) for g, label in enumerate(taxonomy.coarse)}
        self.known = {
            g: [column for column, label in enumerate(node.labels) if label != OTHER]
            for g, node in found.items()
            if node
        }
        self.nodes = nn.ModuleDict({str(g): plain(node.network) for g, node in found.items() if node})

    def forward(self, logmel: torch.Tensor, vggish: torch.Tensor) -> torch.Tensor:
        root = complete(torch.sigmoid(self.root(logmel, vggish)), self.labels, self.taxonomy)
        coarse = root[:, : len(self.taxonomy.coarse)]
        top = functional.one_hot(coarse.argmax(dim=1), coarse.shape[1]).bool()
        runs = (coarse > self.threshold) | top
        columns = list(root.unbind(1))
        for group in range(coarse.shape[1]):
            members = [coarse.shape[1] + index for index in self.taxonomy.members(group)]
            if len(members) == 1 and not self.keep:
                columns[members[0]] = coarse[:, group]
            elif str(group) in self.nodes:
                fine = torch.sigmoid(self.nodes[str(group)](logmel, vggish))[:, self.known[group]]
                for member, own in zip(members, fine.unbind(1), strict=True):
                    other = columns[member] if self.keep else torch.zeros_like(own)
                    columns[member] = torch.where(runs[:, group], own, other)
            elif not self.keep:
                columns[members[0] : members[-1] + 1] = [torch.zeros_like(coarse[:, 0])] * len(members)
        return torch.stack(columns, dim=1)


class BaselineHead(nn.Module):
    """`ust.systems.Baseline` of features."""

    def __init__(self, system: Baseline, taxonomy: Taxonomy) -> None:
        super().__init__()
        self.network, self.labels, self.pooling = copy.deepcopy(system.network), system.labels, system.pooling
        self.taxonomy = taxonomy

    def forward(self, logmel: torch.Tensor, vggish: torch.Tensor) -> torch.Tensor:
        frames = torch.sigmoid(self.network(vggish))
        return complete(pool(frames, self.pooling), self.labels, self.taxonomy)


HEADS: dict[type[System], type[nn.Module]] = {
    Flat: FlatHead,
    Hierarchy: HierarchyHead,
    Baseline: BaselineHead,
}


class EndToEnd(nn.Module):
    """What a tagger does, as one module: clips (batch, samples) to probabilities (batch, labels).

    Where the system has them, the quantised embeddings (batch, 10, 128) follow.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        self.head = HEADS[type(tagger.system)](tagger.system, tagger.taxonomy)
        uses_logmel = not isinstance(tagger.system, Baseline)
        self.logmel = LogMel(**tagger.logmel_settings) if uses_logmel else None
        self.embed = Embed(tagger.embedder) if tagger.embedder else None
        self.eval()

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logmel = self.logmel(waveform) if self.logmel else None
        vggish = self.embed(waveform) if self.embed else waveform.new_zeros(waveform.shape[0], 10, EMBEDDING)
        silent = (waveform == 0).all(dim=1, keepdim=True)
        probabilities = torch.where(silent, 0.0, self.head(logmel, vggish))
        return (probabilities, vggish) if self.embed else (probabilities,)


def complete(outputs: torch.Tensor, labels: list[str], taxonomy: Taxonomy) -> torch.Tensor:
    """`ust.inference.complete_probabilities` of a tensor."""
    columns = dict.fromkeys(taxonomy.labels, torch.zeros_like(outputs[:, 0]))
    columns |= zip(labels, outputs.unbind(1), strict=True)
    for group, label in enumerate(taxonomy.coarse):
        if label not in labels:
            members = [columns[taxonomy.fine[index]] for index in taxonomy.members(group)]
            columns[label] = torch.stack(members, dim=1).amax(dim=1)
    return torch.stack([columns[label] for label in taxonomy.labels], dim=1)


def plain(network: nn.Module) -> nn.Module:
    """A copy with PyTorch's own convolutions instead of `ust.layers`', for a runtime that has better ones."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, StridedConv2d | WinogradConv2d):
                shape = child.kernel_size, child.stride, child.padding
                convolution = nn.Conv2d(child.in_channels, child.out_channels, *shape, device="meta")
                convolution.load_state_dict(child.state_dict(), assign=True)
                setattr(parent, name, convolution)
    return network.eval()
