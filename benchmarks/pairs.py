"""The pairs: this project's way of doing something, and a peer's."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import resampy
import torch
from torch.nn import functional

from benchmarks import peers
from benchmarks.timing import Pair
from ust.annotations.taxonomy import read_taxonomy
from ust.audio.recordings import load_audio
from ust.audio.resampling import resample
from ust.compute.accelerate import accelerate
from ust.compute.fused import Bilinear
from ust.compute.strided import StridedConv2d
from ust.features.extraction import extract
from ust.features.feature import OnBatch
from ust.features.logmel import logmel
from ust.features.mn.weights import load_network, width_of
from ust.features.rows import Row, find_rows
from ust.features.section import read_feature
from ust.features.store import open_all
from ust.features.table import FEATURES
from ust.features.vggish.network import CONVOLUTIONS, LINEARS, Embedder
from ust.features.vggish.weights import random_variables, save_weights
from ust.models.cnn import FUSED, TABLE_1, VGGISH_FEATURES, CNNVGGish
from ust.models.examples import Examples
from ust.scores.bootstrap import resamples
from ust.scores.evaluation import Evaluation
from ust.sources.city.build import build_city, write_taxonomy

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import oracle

ROOT = Path(__file__).parent.parent
RATE = 44_100
LOGMEL = {"sample_rate": RATE, "n_fft": 2048, "hop_length": 512, "n_mels": 128}
BATCH = 32


def network(fusion: str) -> CNNVGGish:
    """The report's network, of PyTorch's modules as they come."""
    config = CNNVGGish.Config(fusion=fusion, vggish_scale=None, conv_dropout=0.5, head_dropout=0.2)
    return CNNVGGish(config, 37)


class Bench:
    """The inputs that the pairs share, and the pairs.

    Parameters
    ----------
    folder : Path
        For a small city and feature files.
    device : torch.device
        What networks run on; peers, too.
    stack : contextlib.ExitStack
        Closes what is opened.
    """

    def __init__(self, folder: Path, device: torch.device, stack: ExitStack) -> None:
        self.folder, self.device, self.stack = folder, device, stack
        self.settings = {
            name: read_feature(ROOT / "params.yaml", name)[1].model_dump() for name in ("logmel", "vggish")
        }
        write_taxonomy(folder / "taxonomy.yaml")
        self.taxonomy = read_taxonomy(folder / "taxonomy.yaml")

    @cached_property
    def rows(self) -> list[Row]:
        """The clips of a small city."""
        build_city(self.folder / "city", seed=2019, clips={"train": 64})
        return find_rows(self.folder / "city" / "audio")

    @cached_property
    def clip(self) -> np.ndarray:
        """Ten seconds of sound."""
        return load_audio(self.rows[0].path, RATE)

    @cached_property
    def variables(self) -> dict[str, np.ndarray]:
        """Weights of VGGish."""
        return random_variables(2019, final_relu=True)

    def synchronised(self, function: Callable[[], object]) -> Callable[[], object]:
        """The function and, on a GPU, all that it started."""

        def call() -> None:
            function()
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return call

    def resample(self) -> Pair:
        """44.1 to 16 kHz."""
        return Pair(
            "resample", "resampy.resample, kaiser_best",
            partial(resample, self.clip, RATE, 16_000),
            partial(resampy.resample, self.clip, RATE, 16_000, filter="kaiser_best"),
            "clip", flop=2.0 * 160_000 * 2 * 64 * 441 / 160, rounds=9,
        )  # fmt: skip

    def logmel(self) -> Pair:
        """128 bands, 862 frames."""
        return Pair(
            "logmel", "librosa.feature.melspectrogram, power_to_db",
            partial(logmel, self.clip, **LOGMEL), partial(peers.logmel, self.clip, RATE), "clip", rounds=15,
        )  # fmt: skip

    def vggish_forward(self, precision: str = "float32") -> Pair:
        """Sixteen clips of ten examples."""
        clips = 16
        patches = np.random.default_rng(0).standard_normal((10 * clips, 96, 64)).astype(np.float32)
        embedder = Embedder(self.variables, final_relu=True, precision=precision, device=self.device)
        model = peers.keras_vggish(self.variables)
        size, macs = 96 * 64, 0
        for group in CONVOLUTIONS:
            macs += sum(size * 9 * inputs * outputs for _, inputs, outputs in group)
            size //= 4
        macs += sum(inputs * outputs for _, inputs, outputs in LINEARS)
        name = "vggish_forward" if precision == "float32" else f"vggish_forward_{precision}"
        return Pair(
            name, "TensorFlow/Keras, clip by clip",
            lambda: [embedder.embed(batch) for batch in np.split(patches, clips // 4)],
            lambda: [model(clip[..., None], training=False) for clip in np.split(patches, clips)],
            "clip", per=clips, flop=2.0 * macs * len(patches),
        )  # fmt: skip

    def vggish_forward_bfloat16(self) -> Pair:
        """The same in half precision."""
        return self.vggish_forward("bfloat16")

    def extraction(self) -> Pair:
        """From files to both features on disk."""
        model, on_batch = peers.keras_vggish(self.variables), self.vggish()
        pca = self.variables["pca_eigen_vectors"], self.variables["pca_means"]
        pickles = self.folder / "pickles"
        pickles.mkdir()
        return Pair(
            "extraction", "soundfile, resampy, NumPy, TensorFlow, librosa, clip by clip; a pickle each",
            lambda: self.extract(self.rows, on_batch),
            lambda: peers.chain([row.path for row in self.rows], model, pca, pickles),
            "clip", per=len(self.rows), rounds=3,
        )  # fmt: skip

    def vggish(self) -> OnBatch:
        """The network of the feature, with its weights from files."""
        folder, feature = self.folder / "weights", FEATURES["vggish"]
        save_weights(folder, self.variables, weights="random")
        return feature.on_batch(folder, feature.of_settings(self.settings["vggish"]), self.device)

    def extract(self, rows: list[Row], on_batch: OnBatch) -> None:
        """Both features of some rows, as the stages extract them."""
        for name, network in (("logmel", None), ("vggish", on_batch)):
            path = self.folder / f"{name}.h5"
            path.unlink(missing_ok=True)  # or it would be taken from there
            extract(path, name, FEATURES[name], rows, self.settings[name], on_batch=network)

    def strided_convolution(self) -> Pair:
        """Block 3 of the report's network, forward and backward."""
        block = TABLE_1[2]
        shape = block.inputs, block.outputs, block.kernel, block.stride, block.padding
        fast, plain = StridedConv2d(*shape), torch.nn.Conv2d(*shape)
        x = torch.randn(8, 16, 128, 862, requires_grad=True)
        macs = 33 * 48 * block.inputs * block.outputs * block.kernel[0] * block.kernel[1]
        networks = [network.to(self.device) for network in (fast, plain)]
        channels_last = x.detach().to(self.device, memory_format=torch.channels_last).requires_grad_()
        x = x.detach().to(self.device).requires_grad_()
        return Pair(
            "strided_convolution", "torch.nn.Conv2d",
            self.synchronised(lambda: networks[0](channels_last).sum().backward()),
            self.synchronised(lambda: networks[1](x).sum().backward()),
            "clip", per=8, flop=6.0 * macs * 8,
        )  # fmt: skip

    def bilinear_step(self) -> Pair:
        """The report's fusion, batch 32, forward and backward."""
        sizes = TABLE_1[-1].outputs, VGGISH_FEATURES, FUSED
        fast = Bilinear(*sizes).to(self.device)
        plain = torch.nn.Bilinear(*sizes).to(self.device)
        first = torch.randn(BATCH, sizes[0], device=self.device, requires_grad=True)
        second = torch.randn(BATCH, sizes[1], device=self.device)
        gradient = torch.randn(BATCH, sizes[2], device=self.device)

        def step(layer: torch.nn.Module) -> None:
            out = layer(first, second)
            layer.zero_grad()
            out.backward(gradient)

        return Pair(
            "bilinear_step", "torch.nn.Bilinear",
            self.synchronised(lambda: step(fast)),
            self.synchronised(lambda: step(plain)),
            "step of 32", flop=6.0 * BATCH * np.prod(sizes), rounds=5,
        )  # fmt: skip

    def train_step(self, fusion: str = "bilinear", precision: str = "float32") -> Pair:
        """The whole network, its loss and its optimiser, batch 32."""
        ours, plain = accelerate(network(fusion)), network(fusion)
        for each in (ours, plain):
            each.to(self.device).train()
        generator = torch.Generator().manual_seed(0)
        logmel = (-80 * torch.rand(BATCH, 128, 862, generator=generator)).half()
        vggish = torch.randint(0, 256, (BATCH, 10, 128), generator=generator, dtype=torch.uint8)
        targets = torch.rand(BATCH, 37, generator=generator).round().to(self.device)
        optimisers = torch.optim.Adam(ours.parameters(), fused=True), torch.optim.Adam(plain.parameters())

        def step(network, optimiser, precision: str) -> None:
            inputs = [part.to(self.device) for part in (logmel, vggish)]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                logits = network(*inputs)
            loss = functional.binary_cross_entropy_with_logits(logits.float(), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        name = (
            "train_step"
            if (fusion, precision) == ("bilinear", "float32")
            else f"train_step_{fusion}_{precision}"
        )
        return Pair(
            name, f"plain PyTorch modules, torch.optim.Adam ({fusion}, float32)",
            self.synchronised(lambda: step(ours, optimisers[0], precision)),
            self.synchronised(lambda: step(plain, optimisers[1], "float32")),
            "step of 32", rounds=3, flop=BATCH * self.network_flop(fusion),
        )  # fmt: skip

    def train_step_concat(self) -> Pair:
        """The same with the report's other fusion."""
        return self.train_step("concat")

    def train_step_concat_bfloat16(self) -> Pair:
        """The same with mixed precision."""
        return self.train_step("concat", "bfloat16")

    def network_flop(self, fusion: str) -> float:
        """Floating-point operations of a clip forward and backward, by the definition of the layers."""
        flop = 0.0
        with torch.device("meta"):
            layers = [layer for block in network("concat").convolutions for layer in block]
        x = torch.zeros(2, 1, 128, 862, device="meta")
        for layer in layers:
            x = layer(x)
            if isinstance(layer, torch.nn.Conv2d):
                # The first layer needs no gradient of its input.
                flop += (4.0 if layer.in_channels == 1 else 6.0) * x[0, 0].numel() * layer.weight.numel()
        fused = TABLE_1[-1].outputs * VGGISH_FEATURES if fusion == "bilinear" else VGGISH_FEATURES
        return flop + 6.0 * fused * FUSED

    def mn(self) -> Pair:
        """A clip of EfficientAT's smallest published widths, from waveform to embedding."""
        feature = FEATURES["mn"]
        settings = read_feature(ROOT / "params.yaml", "mn")[1]
        folder = self.folder / "mn"
        feature.prepare(folder, settings, None)
        computed = feature.of_settings(settings.model_dump())
        embed = feature.on_batch(folder, computed, self.device)
        plain = load_network(folder, width_of(computed.weights))
        clips, size = [load_audio(row.path, RATE) for row in self.rows[:16]], settings.batch_clips

        def ours() -> None:
            values = [feature.of_clip(clip, RATE, computed) for clip in clips]
            for start in range(0, len(clips), size):
                embed(np.stack(values[start : start + size]))

        def theirs() -> None:
            with torch.inference_mode():
                for clip in clips:
                    samples = resampy.resample(clip, RATE, 32_000, filter="kaiser_best")
                    plain(torch.from_numpy(peers.mn_log_mel(samples)).unsqueeze(0))

        return Pair(
            "mn", "resampy, NumPy, the plain module, clip by clip", ours, theirs, "clip", per=len(clips)
        )

    @cached_property
    def scored(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Ground truth and predictions of 443 clips, probabilities of six decimals."""
        rng = np.random.default_rng(2019)
        labels = list(self.taxonomy.labels)
        truth = pd.DataFrame((rng.random((443, len(labels))) < 0.08).astype(int), columns=labels)
        predicted = pd.DataFrame(rng.random(truth.shape).round(6), columns=labels)
        names = [f"{index:02}_{index:06}.wav" for index in range(443)]
        return truth.assign(sensor_id="1", audio_filename=names), predicted.assign(audio_filename=names)

    def bootstrap(self) -> Pair:
        """A thousand resamples of the clips, both levels."""
        truth, predicted = self.scored
        both = Evaluation.of(truth, predicted, self.taxonomy)
        draws = list(resamples(both.sensors, unit="clips", count=1000, seed=1))

        def theirs() -> None:
            for draw in draws:
                alone = Evaluation.of(truth.iloc[draw], predicted.iloc[draw], self.taxonomy)
                for level in ("fine", "coarse"):
                    alone.scores(level)

        return Pair(
            "bootstrap", "resample by resample, each scored as a file of its clips",
            lambda: [both.resampled(draws, level) for level in ("fine", "coarse")], theirs,
            "bootstrap of 1,000", rounds=3,
        )  # fmt: skip

    def evaluation_official(self) -> Pair:
        """Both levels of 443 clips, reading of the predictions included."""
        truth, predicted = self.scored
        path = self.folder / "predictions.csv"
        predicted.to_csv(path, index=False)

        def theirs() -> None:
            table = pd.read_csv(path).set_index("audio_filename").loc[truth["audio_filename"]]
            for level, labels in (("fine", self.taxonomy.fine), ("coarse", self.taxonomy.coarse)):
                names = list(labels)
                oracle.score(truth[names].to_numpy(), table[names].to_numpy(), self.taxonomy, level)

        def ours() -> None:
            both = Evaluation.read(path, truth, self.taxonomy)
            for level in ("fine", "coarse"):
                both.scores(level)

        return Pair(
            "evaluation_official", "pandas, loop over thresholds, counting with NumPy at each", ours, theirs,
            "evaluation", rounds=5,
        )  # fmt: skip

    def evaluation(self) -> Pair:
        """Both levels of 443 clips."""
        both = Evaluation.of(*self.scored, self.taxonomy)
        return Pair(
            "evaluation", "loop over thresholds, counting with NumPy at each",
            lambda: [both.scores(level) for level in ("fine", "coarse")],
            lambda: [
                oracle.score(both.truth[level], both.predicted[level], self.taxonomy, level)
                for level in ("fine", "coarse")
            ],
            "evaluation", rounds=5,
        )  # fmt: skip

    @cached_property
    def features(self) -> list[Path]:
        """The feature files of the small city."""
        self.extract(self.rows, self.vggish())
        return [self.folder / "logmel.h5", self.folder / "vggish.h5"]

    def opened(self, cache_gib: float = 0.0) -> dict:
        """The same, open."""
        folder = self.features[0].parent
        inputs = {"logmel": "logmel", "vggish": "vggish"}
        return self.stack.enter_context(open_all(folder, inputs, cache_gib=cache_gib))

    @cached_property
    def pickles(self) -> Path:
        """The same features as a float32 pickle per clip."""
        folder = self.folder / "loading"
        folder.mkdir()
        opened = self.opened().values()
        for index in range(len(self.rows)):
            values = (features[np.array([index])][0].astype(np.float32) for features in opened)
            joblib.dump(tuple(values), folder / str(index))
        return folder

    def loading(self, cache_gib: float = 1.0, name: str = "loading") -> Pair:
        """A shuffled epoch of batches of stored features, kept in memory as in training."""
        rows = np.arange(len(self.rows))
        order = np.random.default_rng(0).permutation(rows)
        features = self.opened(cache_gib)
        everything = Examples(features, rows, np.zeros((len(rows), 37), np.float32))
        pickles, cpu = self.pickles, torch.device("cpu")

        def ours() -> None:
            for _ in everything.batches(BATCH, order=order, device=cpu):
                pass

        def theirs() -> None:
            for start in range(0, len(order), BATCH):
                # A pickle as the peer would load it; this process wrote it a moment ago.
                pairs = [joblib.load(pickles / str(index)) for index in order[start : start + BATCH]]
                for part in zip(*pairs, strict=True):
                    torch.from_numpy(np.stack(part))

        return Pair(name, "a float32 pickle per clip", ours, theirs, "clip", per=len(rows), rounds=9)

    def loading_disk(self) -> Pair:
        """The same, read from the compressed file: what an epoch costs where memory is too small."""
        return self.loading(0.0, "loading_disk")

    def bytes_per_clip(self) -> dict[str, float]:
        """Bytes a clip's features take on disk, and as float32 pickles."""
        size = sum(path.stat().st_size for path in self.features)
        pickled = sum(path.stat().st_size for path in self.pickles.iterdir())
        return {"ours": size / len(self.rows), "pickles": pickled / len(self.rows)}


@contextmanager
def bench(device: torch.device) -> Iterator[Bench]:
    """The benchmark in a temporary folder."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        yield Bench(Path(folder), device, stack)
