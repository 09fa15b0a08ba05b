"""The command export: the clips of its check, and its arguments."""

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import RATE

from ust.cli import export, init
from ust.datasets.collection import Collection
from ust.datasets.importing import import_unlabelled
from ust.features.efficientat.weights import draw_random_weights
from ust.util.errors import UserError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder without the pipeline, with weights, a project without labels, and recordings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UST_CACHE", str(tmp_path / "cache"))
    torch.save(draw_random_weights(3, 0.1), "mn01.pt")
    (tmp_path / "recordings" / "deep").mkdir(parents=True)
    for number in range(3):
        samples = 0.1 * np.random.default_rng(number).standard_normal(RATE)
        sf.write(tmp_path / "recordings" / "deep" / f"{number}.wav", samples, RATE)
    init.main(argv=["my-city", "--classes", "siren", "--weights", "mn01_as", "--checkpoint", "mn01.pt"])
    return tmp_path


@pytest.fixture
def checked(monkeypatch):
    """The clips that the exported graph was checked with; nothing is exported."""
    clips = []

    def compare(path, tagger, samples, *, threads):
        clips.extend(samples)
        raise UserError("checked")

    monkeypatch.setattr("ust.tagging.export.export_onnx", lambda *given, **named: None)
    monkeypatch.setattr("ust.tagging.export.compare_with_pytorch", compare)
    return clips


def run(*words):
    with pytest.raises(UserError, match=r"^checked$"):
        export.main(argv=["out", *words])


def test_without_recordings_the_check_takes_synthetic_clips(place, checked):
    run("--checkpoint", "mn01.pt")
    assert len(checked) == 4
    for clip in checked:
        assert (clip.shape, clip.dtype) == ((10 * RATE,), np.float32)
        assert 0 < abs(clip).max() <= 1


def test_files_that_are_no_recordings_are_not_checked(place, checked, caplog):
    (place / "recordings" / "readme.txt").write_text("no sound")
    (place / "recordings" / "broken.wav").write_text("no sound")
    run("--checkpoint", "mn01.pt", "--audio", "recordings")
    assert len(checked) == 3
    assert "broken.wav: cannot be decoded as audio" in caplog.text
    assert "readme" not in caplog.text


def test_untrained_project_is_checked_with_its_own_clips(place, checked):
    collection = Collection(place / "my-city")
    sounds = sorted((place / "recordings" / "deep").iterdir())
    import_unlabelled(collection, sounds, place)
    for words in (["--system", "my-city"], ["--params", "my-city/params.yaml"]):
        checked.clear()
        run(*words)
        assert len(checked) == 3
        np.testing.assert_allclose(checked[0][:RATE], sf.read(sounds[0])[0], atol=1e-4)
    checked.clear()
    run("--params", "my-city/params.yaml", "--checkpoint", "mn01.pt")  # the system audioset
    assert len(checked) == 4


def test_only_unreadable_recordings_are_refused(place):
    (place / "bad").mkdir()
    (place / "bad" / "a.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"^bad: no recording can be read; name others by --audio"):
        export.main(argv=["out", "--checkpoint", "mn01.pt", "--audio", "bad"])


def test_a_second_argument_is_answered_by_the_right_command():
    with pytest.raises(UserError, match=r"--system names the system: ust export out --system my-city; "):
        export.main("ust export", ["my-city", "out"])
