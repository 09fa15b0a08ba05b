"""The pairs that `make bench` measures: a step of this project, and the same step with common libraries.

Each function prepares the inputs and returns a `Pair` of two callables.
"""

import sys
from collections.abc import Callable
from functools import partial

import joblib
import numpy as np
import pandas as pd
import resampy
import torch
from torch.nn import functional

from benchmarks import peers
from benchmarks.inputs import BATCH, LOGMEL, RATE, ROOT, Bench
from benchmarks.timing import Pair
from ust.audio import resampling
from ust.audio.recordings import load_audio
from ust.evaluation.bootstrap import draw_resamples
from ust.evaluation.evaluation import Evaluation
from ust.features import logmel as log_mel
from ust.features.efficientat.weights import load_network, network_width
from ust.features.registry import FEATURES, NETWORKS, read_network
from ust.features.vggish.network import CONVOLUTIONS, LINEARS, Embedder
from ust.models.cnn_vggish import VGGISH_FEATURES, CNNVGGish
from ust.models.examples import Examples
from ust.models.layers import FUSED, TABLE_1
from ust.util.accelerate import Bilinear, StridedConv2d, accelerate

sys.path.append(str(ROOT / "tests"))
import oracle  # the metrics' definition, which the tests compare with


def resample(bench: Bench) -> Pair:
    """Resample a clip from 44.1 to 16 kHz."""
    return Pair(
        "resample", "resampy.resample, kaiser_best",
        partial(resampling.resample, bench.clip, RATE, 16_000),
        partial(resampy.resample, bench.clip, RATE, 16_000, filter="kaiser_best"),
        "clip", flop=2.0 * 160_000 * 2 * 64 * 441 / 160, rounds=9,
    )  # fmt: skip


def logmel(bench: Bench) -> Pair:
    """Compute the log-mel spectrogram of a clip: 128 bands, 862 frames."""
    return Pair(
        "logmel", "librosa.feature.melspectrogram, power_to_db",
        partial(log_mel.logmel, bench.clip, **LOGMEL), partial(peers.logmel, bench.clip, RATE),
        "clip", rounds=15,
    )  # fmt: skip


def vggish_forward(bench: Bench, precision: str = "float32") -> Pair:
    """Compute the VGGish embeddings of sixteen clips, ten patches each."""
    clips = 16
    patches = np.random.default_rng(0).standard_normal((10 * clips, 96, 64)).astype(np.float32)
    embedder = Embedder(bench.variables, final_relu=True, precision=precision, device=bench.device)
    model = peers.keras_vggish(bench.variables)
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


def vggish_forward_bfloat16(bench: Bench) -> Pair:
    """As `vggish_forward`, in half precision."""
    return vggish_forward(bench, "bfloat16")


def extraction(bench: Bench) -> Pair:
    """Extract log-mels and VGGish embeddings of all clips, from recordings to feature files."""
    model, embed = peers.keras_vggish(bench.variables), bench.vggish()
    pca = bench.variables["pca_eigen_vectors"], bench.variables["pca_means"]
    pickles = bench.folder / "pickles"
    pickles.mkdir()
    return Pair(
        "extraction", "soundfile, resampy, NumPy, TensorFlow, librosa, clip by clip; a pickle each",
        lambda: bench.extract(bench.rows, embed),
        lambda: peers.extract([row.path for row in bench.rows], model, pca, pickles),
        "clip", per=len(bench.rows), rounds=3,
    )  # fmt: skip


def mn(bench: Bench) -> Pair:
    """Compute EfficientAT embeddings of sixteen clips, from waveforms on."""
    feature = FEATURES["mn"]
    folder, settings = bench.folder / "mn", feature.settings()
    network = NETWORKS["efficientat"].prepare(folder, read_network(ROOT / "params.yaml", "efficientat"), None)
    computed = feature.config_from(settings.model_dump() | network)
    embed = feature.load(folder, computed, bench.device)
    plain = load_network(folder, network_width(computed.weights))
    clips, size = [load_audio(row.path, RATE) for row in bench.rows[:16]], settings.batch_clips

    def ours() -> None:
        values = [feature.process_clip(clip, RATE, computed) for clip in clips]
        for start in range(0, len(clips), size):
            embed(np.stack(values[start : start + size]))

    def theirs() -> None:
        with torch.inference_mode():
            for clip in clips:
                samples = resampy.resample(clip, RATE, 32_000, filter="kaiser_best")
                plain(torch.from_numpy(peers.mn_log_mel(samples)).unsqueeze(0))

    return Pair("mn", "resampy, NumPy, the plain module, clip by clip", ours, theirs, "clip", per=len(clips))


def loading(bench: Bench, cache_gib: float = 1.0, name: str = "loading") -> Pair:
    """Read an epoch of shuffled batches of features, which are kept in memory as in training."""
    rows = np.arange(len(bench.rows))
    order = np.random.default_rng(0).permutation(rows)
    features = bench.opened(cache_gib)
    examples = Examples(features, rows, np.zeros((len(rows), 37), np.float32))
    pickles, cpu = bench.pickles, torch.device("cpu")

    def ours() -> None:
        for _ in examples.batches(BATCH, order=order, device=cpu):
            pass

    def theirs() -> None:
        # The peer stores pickles; these were written by this benchmark.
        for start in range(0, len(order), BATCH):
            pairs = [joblib.load(pickles / str(index)) for index in order[start : start + BATCH]]
            for values in zip(*pairs, strict=True):
                torch.from_numpy(np.stack(values))

    return Pair(name, "a float32 pickle per clip", ours, theirs, "clip", per=len(rows), rounds=9)


def loading_disk(bench: Bench) -> Pair:
    """As `loading`, but from the compressed file, as for features that do not fit into memory."""
    return loading(bench, 0.0, "loading_disk")


def bytes_per_clip(bench: Bench) -> dict[str, float]:
    """Return the size of a clip's features in the feature files and as float32 pickles, in bytes."""
    size = sum(path.stat().st_size for path in bench.features)
    pickled = sum(path.stat().st_size for path in bench.pickles.iterdir())
    return {"ours": size / len(bench.rows), "pickles": pickled / len(bench.rows)}


def build_network(fusion: str) -> CNNVGGish:
    """Build the report's network from PyTorch's own modules."""
    config = CNNVGGish.Config(fusion=fusion, vggish_scale=None, conv_dropout=0.5, head_dropout=0.2)
    return CNNVGGish(config, 37)


def strided_convolution(bench: Bench) -> Pair:
    """Run block 3 of the report's network, forward and backward."""
    block = TABLE_1[2]
    shape = block.inputs, block.outputs, block.kernel, block.stride, block.padding
    fast, plain = StridedConv2d(*shape), torch.nn.Conv2d(*shape)
    x = torch.randn(8, 16, 128, 862, requires_grad=True)
    macs = 33 * 48 * block.inputs * block.outputs * block.kernel[0] * block.kernel[1]
    networks = [network.to(bench.device) for network in (fast, plain)]
    channels_last = x.detach().to(bench.device, memory_format=torch.channels_last).requires_grad_()
    x = x.detach().to(bench.device).requires_grad_()
    return Pair(
        "strided_convolution", "torch.nn.Conv2d",
        bench.synchronised(lambda: networks[0](channels_last).sum().backward()),
        bench.synchronised(lambda: networks[1](x).sum().backward()),
        "clip", per=8, flop=6.0 * macs * 8,
    )  # fmt: skip


def bilinear_step(bench: Bench) -> Pair:
    """Run the report's bilinear fusion, forward and backward, for a batch of 32."""
    sizes = TABLE_1[-1].outputs, VGGISH_FEATURES, FUSED
    fast = Bilinear(*sizes).to(bench.device)
    plain = torch.nn.Bilinear(*sizes).to(bench.device)
    first = torch.randn(BATCH, sizes[0], device=bench.device, requires_grad=True)
    second = torch.randn(BATCH, sizes[1], device=bench.device)
    gradient = torch.randn(BATCH, sizes[2], device=bench.device)

    def step(layer: torch.nn.Module) -> None:
        out = layer(first, second)
        layer.zero_grad()
        out.backward(gradient)

    return Pair(
        "bilinear_step", "torch.nn.Bilinear",
        bench.synchronised(lambda: step(fast)),
        bench.synchronised(lambda: step(plain)),
        "step of 32", flop=6.0 * BATCH * np.prod(sizes), rounds=5,
    )  # fmt: skip


def train_step(bench: Bench, fusion: str = "bilinear", precision: str = "float32") -> Pair:
    """Run a training step of the report's network, with loss and optimiser, for a batch of 32."""
    ours, plain = accelerate(build_network(fusion)), build_network(fusion)
    for each in (ours, plain):
        each.to(bench.device).train()
    generator = torch.Generator().manual_seed(0)
    logmel = (-80 * torch.rand(BATCH, 128, 862, generator=generator)).half()
    vggish = torch.randint(0, 256, (BATCH, 10, 128), generator=generator, dtype=torch.uint8)
    targets = torch.rand(BATCH, 37, generator=generator).round().to(bench.device)
    optimisers = torch.optim.Adam(ours.parameters(), fused=True), torch.optim.Adam(plain.parameters())

    def step(network, optimiser, precision: str) -> None:
        inputs = [part.to(bench.device) for part in (logmel, vggish)]
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(*inputs)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    name = (
        "train_step" if (fusion, precision) == ("bilinear", "float32") else f"train_step_{fusion}_{precision}"
    )
    return Pair(
        name, f"plain PyTorch modules, torch.optim.Adam ({fusion}, float32)",
        bench.synchronised(lambda: step(ours, optimisers[0], precision)),
        bench.synchronised(lambda: step(plain, optimisers[1], "float32")),
        "step of 32", rounds=3, flop=BATCH * network_flop(fusion),
    )  # fmt: skip


def train_step_concat(bench: Bench) -> Pair:
    """As `train_step`, with concatenation instead of the bilinear layer."""
    return train_step(bench, "concat")


def train_step_concat_bfloat16(bench: Bench) -> Pair:
    """As `train_step_concat`, in mixed precision."""
    return train_step(bench, "concat", "bfloat16")


def network_flop(fusion: str) -> float:
    """Return the floating-point operations of a training step for one clip, counted from the layers."""
    flop = 0.0
    with torch.device("meta"):
        layers = [layer for block in build_network("concat").convolutions for layer in block]
    x = torch.zeros(2, 1, 128, 862, device="meta")
    for layer in layers:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            # The first layer computes no gradient of its input.
            flop += (4.0 if layer.in_channels == 1 else 6.0) * x[0, 0].numel() * layer.weight.numel()
    fused = TABLE_1[-1].outputs * VGGISH_FEATURES if fusion == "bilinear" else VGGISH_FEATURES
    return flop + 6.0 * fused * FUSED


def make_predictions(bench: Bench) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return random ground truth and predictions, with six decimals, of 443 clips."""
    rng = np.random.default_rng(2019)
    labels = list(bench.taxonomy.labels)
    truth = pd.DataFrame((rng.random((443, len(labels))) < 0.08).astype(int), columns=labels)
    predicted = pd.DataFrame(rng.random(truth.shape).round(6), columns=labels)
    names = [f"{index:02}_{index:06}.wav" for index in range(443)]
    return truth.assign(sensor_id="1", audio_filename=names), predicted.assign(audio_filename=names)


def bootstrap(bench: Bench) -> Pair:
    """Score a thousand resamples of 443 clips at both levels."""
    truth, predicted = make_predictions(bench)
    evaluation = Evaluation.from_tables(truth, predicted, bench.taxonomy)
    draws = list(draw_resamples(evaluation.sensors, unit="clips", count=1000, seed=1))

    def theirs() -> None:
        for draw in draws:
            resample = Evaluation.from_tables(truth.iloc[draw], predicted.iloc[draw], bench.taxonomy)
            for level in ("fine", "coarse"):
                resample.scores(level)

    return Pair(
        "bootstrap", "resample by resample, each scored as a file of its clips",
        lambda: [evaluation.bootstrap_metrics(draws, level) for level in ("fine", "coarse")], theirs,
        "bootstrap of 1,000", rounds=3,
    )  # fmt: skip


def evaluation_from_file(bench: Bench) -> Pair:
    """Read the predictions for 443 clips and score both levels."""
    truth, predicted = make_predictions(bench)
    path = bench.folder / "predictions.csv"
    predicted.to_csv(path, index=False)

    def theirs() -> None:
        table = pd.read_csv(path).set_index("audio_filename").loc[truth["audio_filename"]]
        for level, labels in (("fine", bench.taxonomy.fine), ("coarse", bench.taxonomy.coarse)):
            names = list(labels)
            oracle.score(truth[names].to_numpy(), table[names].to_numpy(), bench.taxonomy, level)

    def ours() -> None:
        evaluation = Evaluation.read(path, truth, bench.taxonomy)
        for level in ("fine", "coarse"):
            evaluation.scores(level)

    return Pair(
        "evaluation_official", "pandas, loop over thresholds, counting with NumPy at each", ours, theirs,
        "evaluation", rounds=5,
    )  # fmt: skip


def evaluation_scores(bench: Bench) -> Pair:
    """Score both levels of 443 clips."""
    evaluation = Evaluation.from_tables(*make_predictions(bench), bench.taxonomy)
    return Pair(
        "evaluation", "loop over thresholds, counting with NumPy at each",
        lambda: [evaluation.scores(level) for level in ("fine", "coarse")],
        lambda: [
            oracle.score(evaluation.truth[level], evaluation.predicted[level], bench.taxonomy, level)
            for level in ("fine", "coarse")
        ],
        "evaluation", rounds=5,
    )  # fmt: skip


PAIRS: dict[str, Callable[[Bench], Pair]] = {
    "resample": resample,
    "logmel": logmel,
    "vggish_forward": vggish_forward,
    "vggish_forward_bfloat16": vggish_forward_bfloat16,
    "extraction": extraction,
    "loading": loading,
    "loading_disk": loading_disk,
    "strided_convolution": strided_convolution,
    "bilinear_step": bilinear_step,
    "train_step": train_step,
    "train_step_concat": train_step_concat,
    "train_step_concat_bfloat16": train_step_concat_bfloat16,
    "mn": mn,
    "evaluation": evaluation_scores,
    "evaluation_official": evaluation_from_file,
    "bootstrap": bootstrap,
}
