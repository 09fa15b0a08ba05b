"""A custom tagger from init to tag, by the commands of its documentation page."""

import json
import re
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from commands import run_ust
from conftest import ROOT
from pages import commands
from project import Project, change_params

import ust
from ust.cli import program
from ust.custom.active_learning import load_review_state
from ust.custom.training import extrapolate_to_twice_the_clips
from ust.datasets.collection import Collection
from ust.util.documents import read_json
from ust.util.errors import UserError

PAGE = ROOT / "docs" / "your-sounds.md"
RATE = 16_000
KINDS = ("tram", "bell", "market/voices", "market/cart")


def write_sounds(folder):
    """Write ten recordings of each class, unlabelled recordings, and one with several classes."""
    rng = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    made = []
    for number, kind in enumerate(KINDS):
        for index in range(10):
            pitch = 300 * 2**number * (1 + 0.02 * rng.standard_normal())
            sound = 0.3 * np.sin(2 * np.pi * pitch * t) + 0.02 * rng.standard_normal(len(t))
            made.append(sound)
            path = folder / "sounds" / kind / f"{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, sound, RATE)
    (folder / "more").mkdir()
    for index, (first, second) in enumerate(pairwise(made[::7])):
        sf.write(folder / "more" / f"{index}.flac", np.concatenate([first, second]), RATE)
    sf.write(folder / "street.flac", np.concatenate(made[::8]), RATE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the page's commands have run, and the output of each command."""
    folder = tmp_path_factory.mktemp("own")
    write_sounds(folder)
    here = Project(folder)
    outputs = {}
    for command in commands(PAGE):
        words = command
        if command.startswith("ust init"):
            # The page uses published weights, which tests cannot download.
            words = f"{re.sub(' --checkpoint [^ ]+', '', command)} --weights random"
        if "ust review" in command or "benchmarks" in command:
            continue  # test_review.py; the simulation takes minutes
        if "dvc repro" in command:
            names = ("metrics.json", "details.json", "report.html", "predictions.csv")
            outputs["before"] = {name: (folder / "my-city" / name).read_bytes() for name in names}
        outputs[command] = here.shell(words)
        if command.startswith("ust init"):
            shorter = {"train_head.max_epochs": 12, "own.curve_seeds": 1, "own.mistakes": 2}
            params = folder / "my-city" / "params.yaml"
            change_params(params, params, shorter | {"own.bootstrap": 20, "compute.threads": 1})
    return here, outputs


def test_commands_match_the_documentation(finished):
    here, outputs = finished
    city = here.path / "my-city"
    assert (city / "dcase-ust-taxonomy.yaml").read_text() == (
        "coarse:\n  1: bell\n  2: market\n  3: tram\nfine:\n  2:\n    1: cart\n    2: voices\n"
    )
    clips = pd.read_csv(city / "clips.csv")
    assert set(clips["split"]) == {"train", "validate"}
    metrics = json.loads((city / "metrics.json").read_text())
    details = json.loads((city / "details.json").read_text())
    assert metrics["train"]["coarse"]["micro_auprc"] > details["chance"]["train"]["coarse"]["micro_auprc"]
    assert set(details["labels"]) == {"bell", "market", "tram", "cart", "voices"}
    assert details["clips"]["unlabelled"] == 5
    assert 0 < metrics["twice_the_clips"] <= 1
    assert (city / ".gitignore").read_text().splitlines()[:2] == ["/audio", "/report.html"]
    assert any("street.flac" in text for command, text in outputs.items() if command.startswith("ust tag"))


def test_head_with_prior_uses_the_classes_of_the_project(finished, tmp_path):
    here, _ = finished
    folder = tmp_path / "my-city"
    shutil.copytree(here.path / "my-city", folder)
    params = folder / "params.yaml"
    labels = list(Collection(folder).taxonomy.labels)
    row = {"trainer": "train_head", "architecture": "audioset_head", "features": ["mn_windows"],
           "labels": "majority", "outputs": "all"}  # fmt: skip
    change_params(params, params, {"systems.own": row, "audioset.classes": {labels[0]: ["Siren"]}})
    assert run_ust(["train", folder], tmp_path)[0] == 0
    model = read_json(folder / "models" / "own" / "model.json", made_by="train")
    assert model["config"]["classes"] == {labels[0]: ["Siren"]} | {label: [] for label in labels[1:]}
    _, state, _ = load_review_state(Collection(folder))
    assert state.embeddings.shape[1] > 527  # those of mn_windows, not those of mn from the first training
    code, tags, _ = run_ust(
        ["tag", "--system", folder, here.path / "street.flac", "--format", "csv"], tmp_path
    )
    assert code == 0
    assert len(tags.splitlines()) > 1


def test_no_recording_is_in_both_splits(finished):
    here, _ = finished
    clips = pd.read_csv(here.path / "my-city" / "clips.csv")
    assert (clips.groupby("recording")["split"].nunique() == 1).all()


def test_metrics_page_is_one_file(finished):
    here, _ = finished
    page = (here.path / "my-city" / "report.html").read_text()
    outside = set(re.findall(r"https?://[^\"'\s<)]+", page))
    assert all(address.startswith("http://www.w3.org/") or "matplotlib" in address or "purl.org" in address
               or "creativecommons" in address for address in outside)  # fmt: skip
    assert page.count("<audio") == 2
    assert "With twice the clips it would be about" in page
    assert "average_precision_score" in page
    for label in ("bell", "voices"):
        assert f"<td>{label}</td>" in page


def test_project_folder_loads_as_tagger(finished, tmp_path, monkeypatch):
    here, _ = finished
    monkeypatch.chdir(tmp_path)
    tagger = ust.Tagger.from_pretrained(here.path / "my-city" / "model")
    table = tagger(here.path / "street.flac")
    assert list(table.columns[:3]) == ["start", "end", "bell"]
    assert table["start"].tolist() == [0.0, 5.0]
    rows = pd.read_csv(here.path / "my-city" / "predictions.csv", index_col="audio_filename")
    clips = pd.read_csv(here.path / "my-city" / "clips.csv", index_col="audio_filename")
    clip = clips.index[clips["split"] == "validate"][0]
    values = tagger.predict(*sf.read(here.path / "my-city" / "audio" / clip, dtype="float32"))
    np.testing.assert_allclose(values, rows.loc[clip, list(tagger.taxonomy.labels)], atol=1e-5)
    cache = tmp_path / "cache" / "models"
    cache.mkdir(parents=True)
    (cache / "city").symlink_to(here.path / "my-city" / "model")
    monkeypatch.setenv("UST_CACHE", str(tmp_path / "cache"))
    assert ust.Tagger.from_pretrained("city").taxonomy == tagger.taxonomy


def test_changed_or_missing_model_file_is_named(finished, tmp_path):
    here, _ = finished
    here.run("cp", "-r", str(here.path / "my-city" / "model"), str(tmp_path / "model"))
    weights = tmp_path / "model" / "system" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="not what was packed"):
        ust.Tagger.from_pretrained(tmp_path / "model")
    weights.unlink()
    with pytest.raises(UserError, match="is missing"):
        ust.Tagger.from_pretrained(tmp_path / "model")
    package = tmp_path / "model" / "ust.json"
    package.write_text(json.dumps({"format": 2, "reading": {}, "sha256": {"../../x": "0"}}))
    with pytest.raises(UserError, match="not in the folder"):
        ust.Tagger.from_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"nowhere.*no such file"):
        ust.Tagger.from_pretrained(tmp_path / "nowhere")


def test_dvc_pipeline_matches_the_command(finished):
    """`dvc repro` writes the same bytes as `ust train`; a second run does nothing."""
    here, outputs = finished
    city = Project(here.path / "my-city")
    (repro,) = [command for command in outputs if "dvc repro" in command]
    assert "Running stage 'train'" in outputs[repro]
    assert "train.coarse.micro_auprc" in outputs[repro]
    for name, content in outputs["before"].items():
        assert (city.path / name).read_bytes() == content
    assert "up to date" in city.run("dvc", "repro")
    assert "max_epochs: 12" in (city.path / "dvc.lock").read_text()


@pytest.mark.parametrize(("words", "message"), [
    (("init", "my-city", "--classes", "a"), "exists and is not empty"),
    (("init", "new", "--classes", "a,A"), "listed twice"),
    (("init", "new", "--classes", ", ,"), "at least one class"),
    (("init", "new", "--classes", "a", "--weights", "mn99"), "should be one of mn01_as"),
    (("init", "new", "--from", "nowhere"), "no such folder"),
    (("import", "nowhere", "sounds"), "ust init nowhere makes it"),
    (("import", "my-city", "gone.csv"), "no such file or folder"),
    (("import", "my-city", "sounds", "--format", "mp3"), "should be one of sonyc"),
    (("import", "my-city", "sounds", "--map", "x"), "should be like NAME=OTHER"),
    (("import", "my-city", "sounds", "--group", "("), "is not a regular expression"),
    (("import", "my-city", "sounds", "--group", "zzz"), "does not match"),
    (("import", "my-city", "sounds", "--validate", "1"), "should be a share below 1"),
    (("train", "sounds"), "ust init sounds makes it"),
    (("tag", "--system", "nowhere", "street.flac"), "there is no system 'nowhere'"),
])  # fmt: skip
def test_invalid_input_gives_one_error_line(finished, monkeypatch, words, message):
    here, _ = finished
    monkeypatch.chdir(here.path)
    monkeypatch.setattr("sys.argv", ["ust", *words])
    with pytest.raises(SystemExit) as end:
        program.main()
    assert str(end.value.code).startswith("error: ")  # which Python prints, and ends with 1
    assert message in str(end.value.code)
    assert not (here.path / "new").exists()


def test_invalid_parameter_is_named(finished):
    here, _ = finished
    params = here.path / "my-city" / "params.yaml"
    before = params.read_text()
    try:
        params.write_text(before.replace("folds: 5", "folds: many"))
        assert "train_head.folds: is 'many'" in here.ust("train", "my-city", code=1)
    finally:
        params.write_text(before)


def test_learning_curve_is_extrapolated_to_twice_the_clips():
    """The distance of the score from 1 halves with each doubling of the clips."""
    curve = pd.DataFrame({"seed": [0] * 4, "clips": [10, 20, 40, 80], "score": [0.2, 0.6, 0.8, 0.9]})
    assert extrapolate_to_twice_the_clips(curve) == pytest.approx(0.95)
    assert extrapolate_to_twice_the_clips(curve.iloc[:0]) is None
    flat = curve.assign(score=0.5)
    assert extrapolate_to_twice_the_clips(flat) == pytest.approx(0.5)
    falling = curve.assign(score=[0.5, 0.4, 0.3, 0.2])
    assert extrapolate_to_twice_the_clips(falling) == pytest.approx(0.2)
