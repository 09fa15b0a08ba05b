"""EfficientAT's MobileNet, compared with the authors' code and with its definition."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import torch
from conftest import RATE

from ust.features.efficientat import feature, windows
from ust.features.efficientat.network import MobileNet, round_channels
from ust.features.efficientat.weights import (
    RELEASED,
    draw_random_weights,
    load_network,
    network_width,
    prepare,
    read_published,
)
from ust.features.mn_logmel import BANDS, FFT, HIGHEST, log_mel, mel_filter_bank
from ust.util.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Return a state dict like the published ones, from a seed."""
    path = tmp_path_factory.mktemp("mn") / "mn04.pt"
    torch.save(draw_random_weights(1, 0.4), path)
    return path


def fetch(source, *, checksum=None):
    return Path(source)


def settings(path, weights="mn04_as"):
    return SimpleNamespace(weights=weights, checkpoint=None if path is None else str(path), seed=2019)


def sine(hertz, seconds):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(seconds * 32_000) / 32_000)).astype(np.float32)


SIGNALS = {
    "sine": lambda: sine(1000, 10),
    "noise": lambda: (0.1 * np.random.default_rng(0).standard_normal(320_000)).astype(np.float32),
    "short": lambda: sine(440, 3),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_network_matches_authors_reference_values(published, name):
    network = MobileNet(0.4)
    network.load_state_dict(read_published(published / "mn04_as_mAP_432.pt", 0.4))
    network.eval()
    found = log_mel(SIGNALS[name](), 32_000)
    with np.load(published / "mn04_reference.npz") as wanted, torch.inference_mode():
        np.testing.assert_allclose(found[:, :50], wanted[f"{name}_logmel"], atol=1e-4)
        embedding = network(torch.from_numpy(found)[None])
        np.testing.assert_allclose(embedding[0], wanted[f"{name}_embedding"], atol=1e-4)
        np.testing.assert_allclose(network.logits(embedding)[0], wanted[f"{name}_logits"], atol=1e-4)


def test_published_file_has_the_known_checksum(published, tmp_path):
    _, checksum = RELEASED["mn04_as"]
    from ust.util.digests import file_digest

    assert file_digest(published / "mn04_as_mAP_432.pt") == checksum
    requested = []

    def fetched(source, *, checksum=None):
        requested.append((source, checksum))
        return published / "mn04_as_mAP_432.pt"

    found = prepare(tmp_path, settings(None), fetched)
    assert requested[0][0].endswith("/v0.0.1/mn04_as_mAP_432.pt")
    assert requested[0][1] == f"sha256:{checksum}"
    assert found["weights"] == "mn04_as"


def test_log_mel_matches_librosa(noise):
    """The reference uses librosa's STFT in double precision."""
    samples = noise[: 3 * RATE].astype(np.float64)
    emphasised = samples[1:] - 0.97 * samples[:-1]
    window = np.hanning(800)
    spectrum = librosa.stft(
        emphasised, n_fft=FFT, hop_length=320, win_length=800, window=window, pad_mode="reflect"
    )
    mel = mel_filter_bank().astype(np.float64) @ np.abs(spectrum) ** 2
    wanted = (np.log(mel + 1e-5) + 4.5) / 5
    np.testing.assert_allclose(log_mel(noise[: 3 * RATE], 32_000), wanted, atol=1e-4)


def test_mel_bands_are_triangles_between_their_neighbours():
    weights = mel_filter_bank()
    assert weights.shape == (BANDS, FFT // 2 + 1)
    hertz = np.arange(FFT // 2 + 1) * 32_000 / FFT
    edges = 700 * np.expm1(np.linspace(0, 1127 * np.log1p(HIGHEST / 700), BANDS + 2) / 1127)
    assert not weights[:, hertz >= HIGHEST].any()
    for band in (0, 40, 127):
        assert (weights[band] > 0).sum() == ((hertz > edges[band]) & (hertz < edges[band + 2])).sum()
    assert weights.max() <= 1
    # Between the first and the last centre the weights of each bin sum to 1.
    inside = (hertz > edges[1]) & (hertz < edges[-2])
    np.testing.assert_allclose(weights[:, inside].sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(("width", "size"), [(0.4, 1_020_000), (1.0, 4_880_000)])
def test_widths_and_channels_match_definition(width, size):
    """The file of mn04_as has 312 tensors; mn10_as is MobileNetV3-large with 527 classes."""
    with torch.device("meta"):
        network = MobileNet(width)
    assert len(network.state_dict()) == 312
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == pytest.approx(size, rel=0.05)
    assert (round_channels(24 * 0.4), round_channels(40 * 0.4), round_channels(112 * 0.4)) == (16, 16, 48)


@pytest.mark.parametrize("frames", [False, True])
def test_embedding_matches_network_with_folded_batch_norms(seeded, tmp_path, noise, frames):
    assert prepare(tmp_path, settings(seeded), fetch)["weights"] == "mn04_as"
    computed = feature.ExtractionConfig(weights="mn04_as", frames=frames)
    clips = np.stack([feature.process_clip(samples, RATE, computed) for samples in (noise, noise[::-1])])
    found = feature.load(tmp_path, computed, CPU)(clips)
    assert found.shape == (2, *feature.shape(computed))
    with torch.inference_mode():
        maps = load_network(tmp_path, 0.4).feature_maps(torch.from_numpy(clips))
    wanted = maps.mean(dim=2).transpose(1, 2) if frames else maps.mean(dim=(2, 3))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert found.std() > 0.05


def test_window_features_are_clip_embedding_and_window_maxima(seeded, tmp_path, noise):
    prepare(tmp_path, settings(seeded), fetch)
    computed = windows.ExtractionConfig(weights="mn04_as", windows=4)
    clips = np.stack([feature.process_clip(samples, RATE, computed) for samples in (noise, noise**3)])
    found = windows.load(tmp_path, computed, CPU)(clips)
    assert found.shape == (2, *windows.shape(computed)) == (2, 384 + 384 + 527)
    network = load_network(tmp_path, 0.4).eval()
    for clip, values in zip(torch.from_numpy(clips), found, strict=True):
        with torch.inference_mode():
            embeddings = [network(clip[None, :, start : start + 250])[0] for start in range(0, 751, 125)]
            logits = [network.logits(embedding) for embedding in embeddings]
            wanted = [network(clip[None])[0], torch.stack(embeddings).amax(0), torch.stack(logits).amax(0)]
        np.testing.assert_allclose(values, torch.cat(wanted), atol=1e-4)


def test_random_weights_are_seeded(tmp_path):
    first, again, other = (prepare(tmp_path / str(i), settings(None, "random"), fetch) for i in range(2 + 1))
    assert first == again == other
    change = settings(None, "random")
    change.seed = 1
    assert prepare(tmp_path / "b", change, fetch)["sha256"] != first["sha256"]
    assert network_width("mn10_as") == 1.0


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


DAMAGES = "missing cut text pickle object list another larger less more nan folder"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path, state: None, "no such file"),
        (lambda path, state: path.write_bytes(path.with_name("whole.pt").read_bytes()[:100_000]), "refused"),
        (lambda path, state: path.write_text("weights"), "refused"),
        (lambda path, state: path.write_bytes(pickle.dumps({"features.0.0.weight": Evil()})), "refused"),
        (lambda path, state: torch.save(state | {"more": Evil()}, path), "refused"),
        (lambda path, state: torch.save(list(state.values()), path), "refused"),
        (lambda path, state: torch.save(draw_random_weights(1, 0.1), path), "not the MobileNet of width 0.4"),
        (lambda path, state: torch.save({"a": torch.zeros(2_000_000)}, path), "of another network"),
        (lambda path, state: torch.save(dict([*state.items()][1:]), path), "features.0.0.weight is missing"),
        (lambda path, state: torch.save(state | {"more": torch.zeros(1)}, path), "there is no more in it"),
        (
            lambda path, state: torch.save(
                state | {"classifier.5.bias": torch.full((527,), torch.nan)}, path
            ),
            "not finite",
        ),
        (lambda path, state: path.mkdir(), "is a folder"),
    ],
    ids=DAMAGES.split(),
)
def test_invalid_weights_are_named(seeded, tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    path, state = tmp_path / "w.pt", torch.load(seeded, weights_only=True)
    torch.save(state, tmp_path / "whole.pt")
    write(path, state)
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "out", settings(path), fetch)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out").exists()
