"""Features of clips against what a user would call instead."""

from functools import partial

import numpy as np
import resampy
import torch

from benchmarks import peers
from benchmarks.inputs import LOGMEL, RATE, ROOT, Bench
from benchmarks.timing import Pair
from ust.audio import resampling
from ust.audio.recordings import load_audio
from ust.features import logmel as log_mel
from ust.features.efficientat.weights import load_network, network_width
from ust.features.registry import FEATURES, NETWORKS, read_network
from ust.features.vggish.network import CONVOLUTIONS, LINEARS, Embedder


def resample(bench: Bench) -> Pair:
    """44.1 to 16 kHz."""
    return Pair(
        "resample", "resampy.resample, kaiser_best",
        partial(resampling.resample, bench.clip, RATE, 16_000),
        partial(resampy.resample, bench.clip, RATE, 16_000, filter="kaiser_best"),
        "clip", flop=2.0 * 160_000 * 2 * 64 * 441 / 160, rounds=9,
    )  # fmt: skip


def logmel(bench: Bench) -> Pair:
    """128 bands, 862 frames."""
    return Pair(
        "logmel", "librosa.feature.melspectrogram, power_to_db",
        partial(log_mel.logmel, bench.clip, **LOGMEL), partial(peers.logmel, bench.clip, RATE),
        "clip", rounds=15,
    )  # fmt: skip


def vggish_forward(bench: Bench, precision: str = "float32") -> Pair:
    """Sixteen clips of ten examples."""
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
    """The same in half precision."""
    return vggish_forward(bench, "bfloat16")


def extraction(bench: Bench) -> Pair:
    """From files to both features on disk."""
    model, embed = peers.keras_vggish(bench.variables), bench.vggish()
    pca = bench.variables["pca_eigen_vectors"], bench.variables["pca_means"]
    pickles = bench.folder / "pickles"
    pickles.mkdir()
    return Pair(
        "extraction", "soundfile, resampy, NumPy, TensorFlow, librosa, clip by clip; a pickle each",
        lambda: bench.extract(bench.rows, embed),
        lambda: peers.chain([row.path for row in bench.rows], model, pca, pickles),
        "clip", per=len(bench.rows), rounds=3,
    )  # fmt: skip


def mn(bench: Bench) -> Pair:
    """A clip of EfficientAT's smallest published widths, from waveform to embedding."""
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
