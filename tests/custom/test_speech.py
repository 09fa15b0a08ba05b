"""The filter that drops clips with speech."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from conftest import ROOT

from ust.custom.speech import SpeechFilter
from ust.datasets.collection import Collection
from ust.datasets.importing import import_unlabelled, taxonomy_from_classes
from ust.features.efficientat.weights import EfficientATConfig
from ust.features.registry import write_network
from ust.util.errors import UserError

RELEASED = ROOT.parent / "shared" / "weights" / "mn04_as_mAP_432.pt"
CHILDREN = ROOT.parent / "shared" / "urban-audio" / "urbansound8k" / "fold1"


def test_random_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"set efficientat\.weights to mn04_as"):
        SpeechFilter(tmp_path, "random", 0.1)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    if not RELEASED.is_file():
        pytest.skip("the released weights are not here")
    folder = tmp_path_factory.mktemp("mn")
    settings = EfficientATConfig(weights="mn04_as", checkpoint=str(RELEASED))
    write_network(folder, "efficientat", settings, lambda source, checksum=None: Path(source))
    return SpeechFilter(folder, "mn04_as", 0.05)


def test_noise_and_tones_are_kept(gate):
    rng = np.random.default_rng(0)
    for samples in (0.1 * rng.standard_normal(80_000), np.sin(np.arange(80_000)), np.zeros(80_000)):
        assert gate(samples.astype(np.float32), 16_000) is None


@pytest.mark.skipif(not CHILDREN.is_dir(), reason="the recordings are not here")
def test_clips_with_speech_are_dropped_and_machines_kept(gate):
    """All ten clips with children's voices are dropped, at most two of ten with jackhammers."""
    dropped = {}
    for kind in ("children_playing", "jackhammer"):
        found = []
        for path in sorted((CHILDREN / kind).iterdir())[::10][:10]:
            samples, rate = sf.read(path, dtype="float32", always_2d=True)
            found.append(gate(samples.mean(axis=1), rate) is not None)
        dropped[kind] = sum(found)
    assert dropped["children_playing"] == 10
    assert dropped["jackhammer"] <= 2


def test_refused_clips_are_not_written(tmp_path):
    collection = Collection.create(tmp_path / "city", taxonomy_from_classes(["tram"]))
    path = tmp_path / "long.wav"
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(25 * 8000), 8000)
    seen = []

    def refuse(samples, rate):
        seen.append((len(samples), rate))
        return "somebody speaks in it (0.80)" if len(seen) == 2 else None

    found = import_unlabelled(collection, [path], tmp_path, reject=refuse)
    assert seen == [(80_000, 8000), (80_000, 8000), (40_000, 8000)]
    assert found.problems == [f"{path}: from second 10 is not kept: somebody speaks in it (0.80)"]
    assert collection.clips()["start"].tolist() == [0, 20]
    assert len(list((collection.folder / "audio").iterdir())) == 2
