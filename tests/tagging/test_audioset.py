"""The system audioset: classes of each label, published weights, and the commands that use it."""

import csv
import hashlib
import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from conftest import RATE

import ust
from ust.annotations.audioset import (
    audioset_taxonomy,
    check_classes,
    class_indices,
    map_labels_to_classes,
    match_classes,
    sonyc_taxonomy,
    typical_logits,
)
from ust.annotations.taxonomy import Taxonomy
from ust.cli import init, listen, tag, tag_archive
from ust.custom.active_learning import load_review_state
from ust.custom.zero_shot import tag_collection
from ust.datasets.collection import Collection
from ust.datasets.importing import import_unlabelled
from ust.features.efficientat.network import MobileNet
from ust.features.efficientat.weights import draw_random_weights, find_released_name
from ust.features.mn_logmel import log_mel
from ust.models.audioset import AudioSet
from ust.models.checkpoints import load_system
from ust.models.outputs import complete_labels
from ust.tagging import audioset as published_system
from ust.tagging import export
from ust.tagging.audioset import prepare_audioset
from ust.tagging.tagger import Tagger
from ust.training.config import SystemConfig
from ust.training.context import TrainingContext
from ust.training.untrained import UntrainedRow, UntrainedSettings, save_untrained
from ust.util.documents import read_yaml
from ust.util.errors import UserError

WIDTH = 0.1  # of the smallest released network
SHAPES = {"embedding": (2 * 96 + 527,)}
PLAIN = {"typical": 0.0, "scale": 1.0, "shift": 0.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a working folder without a project."""
    monkeypatch.setenv("UST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A state dict like a published one, from a seed."""
    path = tmp_path_factory.mktemp("weights") / "mn01.pt"
    torch.save(draw_random_weights(3, WIDTH), path)
    return path


def window_logits(weights, samples, rate=RATE):
    """Return the highest logit of each class in seven windows of 2.5 s, by the published network."""
    network = MobileNet(WIDTH)
    network.load_state_dict(torch.load(weights))
    mel = torch.from_numpy(log_mel(samples, rate))
    windows = [mel[:, start : start + 250] for start in range(0, 751, 125)]
    with torch.no_grad():
        return network.eval().logits(network(torch.stack(windows))).amax(dim=0).double().numpy()


def logit_of_odds(logits, names):
    odds = sum(np.exp(logits[class_indices()[name]]) for name in names)
    return np.log(odds)


def test_classes_are_those_of_audioset(published):
    with (published / "audioset_classes.csv").open() as file:
        assert [row["display_name"] for row in csv.DictReader(file)] == list(class_indices())


def test_every_sonyc_label_maps_to_existing_classes(taxonomy):
    assert sonyc_taxonomy() == taxonomy
    classes = map_labels_to_classes(taxonomy)
    assert list(classes) == list(taxonomy.labels)
    assert all(classes.values())
    check_classes(classes)
    assert typical_logits().shape == (527,)
    for group, coarse in enumerate(taxonomy.coarse):
        of_fine = {name for label in taxonomy.fine_labels(group) for name in classes[label]}
        assert of_fine - {"Radio", "Speech synthesizer"} == set(classes[coarse])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("church-bells", ["Church bell"]),
        ("car horn", ["Vehicle horn, car horn, honking"]),
        ("gun_shot", ["Gunshot, gunfire"]),
        ("jack hammer", ["Jackhammer"]),
        ("air-conditioner", ["Air conditioning"]),
        ("crying baby", ["Baby cry, infant cry"]),
        ("street music", ["Music"]),
        ("engine_idling", ["Engine", "Idling"]),
        ("ambulance", ["Ambulance (siren)"]),
        ("horn", ["French horn", "Vehicle horn, car horn, honking", "Air horn, truck horn", "Train horn"]),
        ("cart", []),
        ("tram", []),
        ("Straßenbahn", []),
        ("12", []),
    ],
)
def test_classes_are_found_by_name(name, wanted):
    assert match_classes(name) == wanted


def test_custom_labels_inherit_sonyc_or_fine_classes():
    taxonomy = Taxonomy(("1_dog", "2_birds", "3_market"), ("2-1_crow", "2-2_pigeon"), (1, 1))
    classes = map_labels_to_classes(taxonomy)
    assert classes["1_dog"] == map_labels_to_classes(sonyc_taxonomy())["8_dog"]
    assert classes["2_birds"] == ["Bird", "Crow", "Pigeon, dove"]
    assert classes["3_market"] == []


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"1_dog": ["Barking"]}, "classes.1_dog: AudioSet has no class 'Barking'; did you mean 'Bark"),
        ({"1_dog": []}, "classes: no label has any"),
        ({}, "classes: no label has any"),
        ({"9_cat": ["Cat"]}, "classes.9_cat: there is no such label, only 1_dog"),
    ],
)
def test_unknown_classes_are_named(classes, message):
    with pytest.raises(ValueError, match=message):
        AudioSet.Config(classes=classes).complete_for_labels(Taxonomy(("1_dog",), (), ()), ["1_dog"])


def test_label_odds_combine_its_classes():
    classes = {"a": ["Dog", "Bark"], "b": ["Speech"]}
    config = AudioSet.Config(classes=classes, typical=0.25, scale=0.5, shift=-1.0)
    values = np.random.default_rng(0).normal(-4, 3, (5, SHAPES["embedding"][0])).astype(np.float32)
    found = AudioSet(config, 2, SHAPES)(torch.from_numpy(values)).numpy()
    for row, logits in zip(found, values[:, -527:].astype(float), strict=True):
        wanted = [
            0.5 * (logit_of_odds(logits, names) - 0.25 * logit_of_odds(typical_logits(), names)) - 1.0
            for names in classes.values()
        ]
        np.testing.assert_allclose(row, wanted, rtol=1e-4)


def test_features_without_logits_are_refused():
    with pytest.raises(ValueError, match=r"is 384 a clip, should end with 527 logits: take mn_windows"):
        AudioSet.check({"embedding": (384,)})
    AudioSet.check(SHAPES)


def test_a_group_without_classes_has_no_probability():
    taxonomy = Taxonomy(("1_tram", "2_dog"), (), ())
    found = complete_labels(torch.tensor([[0.3]]), ["2_dog"], taxonomy)
    np.testing.assert_allclose(found, [[0.0, 0.3]])


@pytest.mark.parametrize("outputs", ["all", "coarse"])
def test_untrained_recipe_saves_a_system(tmp_path, taxonomy, outputs):
    row = {"trainer": "untrained", "architecture": "audioset", "features": ["mn_windows"]}
    row = UntrainedRow(**row, labels="majority", outputs=outputs)
    system = SystemConfig(row, AudioSet.Config(), UntrainedSettings())
    data = SimpleNamespace(train=SimpleNamespace(shapes=SHAPES))
    about = {"inputs": {"embedding": "mn_windows"}, "features": {}, "taxonomy": asdict(taxonomy)}
    context = TrainingContext(
        "audioset", taxonomy, torch.device("cpu"), tmp_path / "out", tmp_path, about, None, None
    )
    save_untrained(system, data, context)
    values = torch.from_numpy(np.random.default_rng(0).normal(-4, 3, (3, SHAPES["embedding"][0]))).float()
    found = load_system(tmp_path / "out")(embedding=values)
    classes = map_labels_to_classes(taxonomy)
    config = AudioSet.Config(classes=classes)
    wanted = torch.sigmoid(AudioSet(config, 37, SHAPES)(values))
    known = slice(None) if outputs == "all" else slice(0, 8)
    np.testing.assert_allclose(found[:, known], wanted[:, known], rtol=1e-5)
    assert found.shape == (3, 37)
    bad = SystemConfig(row, AudioSet.Config(classes={"1_engine": ["Motor"]}), UntrainedSettings())
    with pytest.raises(
        UserError, match=r"systems\.audioset\.classes\.1_engine: AudioSet has no class 'Motor'"
    ):
        save_untrained(bad, data, context)


def test_published_weights_load_as_tagger(weights, noise):
    tagger = Tagger.load("audioset", checkpoint=weights)
    assert tagger.taxonomy == sonyc_taxonomy()
    logits = window_logits(weights, noise)
    config, taxonomy = AudioSet.Config(), tagger.taxonomy
    wanted = {}
    for label, names in map_labels_to_classes(taxonomy).items():
        logit = logit_of_odds(logits, names) - config.typical * logit_of_odds(typical_logits(), names)
        wanted[label] = 1 / (1 + np.exp(-config.scale * logit - config.shift))
    for group, coarse in enumerate(
        taxonomy.coarse
    ):  # a coarse label is at least as probable as its fine ones
        wanted[coarse] = max(wanted[coarse], *(wanted[label] for label in taxonomy.fine_labels(group)))
    np.testing.assert_allclose(tagger.predict(noise, RATE), list(wanted.values()), atol=1e-4)


def test_every_class_has_a_probability(weights, noise):
    tagger = Tagger.load(prepare_audioset(checkpoint=weights, every_class=True))
    assert tagger.taxonomy == audioset_taxonomy()
    wanted = 1 / (1 + np.exp(-window_logits(weights, noise)))
    np.testing.assert_allclose(tagger.predict(noise, RATE), wanted, atol=1e-4)


def test_system_is_created_once_per_weights_file(weights, cache, tmp_path, monkeypatch):
    first = prepare_audioset(checkpoint=weights)
    shutil.copy(weights, tmp_path / "copy.pt")
    torch.save(draw_random_weights(4, WIDTH), tmp_path / "other.pt")
    assert prepare_audioset(checkpoint=tmp_path / "other.pt") != first
    monkeypatch.setattr(published_system, "write_network", None)  # not called again
    assert prepare_audioset(checkpoint=tmp_path / "copy.pt") == first
    assert len(list((cache / "models").iterdir())) == 2


def test_weights_are_downloaded_once_and_checked(weights, cache, server, monkeypatch):
    content = weights.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(published_system, "RELEASE", server.url)
    monkeypatch.setattr(published_system, "RELEASED", {"mn01_as": ("mn01.pt", checksum)})
    monkeypatch.setattr(
        published_system, "DEFAULTS", published_system.DEFAULTS.model_copy(update={"weights": "mn01_as"})
    )
    server.answers["/mn01.pt"] = [(None, content)]
    first = prepare_audioset()
    assert prepare_audioset() == first
    assert server.requests == ["/mn01.pt"]
    assert ust.Tagger.from_pretrained("audioset").taxonomy == sonyc_taxonomy()
    shutil.rmtree(cache)
    server.answers["/mn01.pt"] = [(None, content[:-1] + b"?")]
    monkeypatch.setattr(published_system, "RETRIES", 0)
    with pytest.raises(UserError, match="never with the right checksum"):
        prepare_audioset()


def test_failed_download_names_the_expected_path(cache, monkeypatch):
    monkeypatch.setattr(published_system, "RELEASE", "http://127.0.0.1:1")
    monkeypatch.setattr(published_system, "RETRIES", 0)
    with pytest.raises(UserError) as error:
        prepare_audioset()
    message = str(error.value)
    assert message.startswith("http://127.0.0.1:1/mn04_as_mAP_432.pt: the download failed 1 times")
    assert f"save the file as {cache / 'efficientat' / 'mn04_as_mAP_432.pt'}" in message
    assert message.endswith("or name it by --checkpoint")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: torch.save(MobileNet(0.7).state_dict(), path), "not the weights of a MobileNet of"),
        (lambda path: torch.save({"a": torch.zeros(2)}, path), "not the weights of a MobileNet of"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "refused: not a state dict"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_invalid_weights_give_one_error_line(weights, tmp_path, damage, message):
    path = tmp_path / "bad.pt"
    shutil.copy(weights, path)
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        prepare_audioset(checkpoint=path)
    assert "\n" not in str(error.value)


def test_width_is_read_from_the_file(weights, tmp_path):
    assert find_released_name(weights) == "mn01_as"
    torch.save(MobileNet(0.5).state_dict(), tmp_path / "a.pt")
    assert find_released_name(tmp_path / "a.pt") == "mn05_as"


def test_tag_works_in_an_empty_folder(weights, wav, noise, capsys):
    tag.main(argv=[str(wav()), "--checkpoint", str(weights), "--format", "csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    tagger = Tagger.load("audioset", checkpoint=weights)
    (window,) = tagger.tag(wav())
    found = [float(row[label]) for label in tagger.taxonomy.labels]
    np.testing.assert_allclose(found, window.probabilities, atol=1e-5)


def test_tag_with_all_audioset_classes(weights, wav, capsys):
    tag.main(argv=[str(wav()), "--checkpoint", str(weights), "--classes", "audioset", "--format", "json"])
    ((recording,),) = (json.loads(capsys.readouterr().out),)
    assert len(recording["windows"][0]["probabilities"]) == 527
    tag.main(argv=[str(wav()), "--checkpoint", str(weights), "--classes", "audioset"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 20  # the most probable ones


def test_foreign_params_file_is_ignored(weights, wav, capsys):
    Path("params.yaml").write_text("lr: 0.1\n", "utf-8")
    tag.main(argv=[str(wav()), "--checkpoint", str(weights)])
    tag.main(argv=[str(wav()), "--system", "audioset", "--checkpoint", str(weights)])
    first, second = capsys.readouterr().out.split("clip.wav")[1:]
    assert first == second


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--system", "other", "--checkpoint", "{weights}"], "belongs to the system audioset, not to other"),
        (["--system", "other", "--classes", "audioset"], "is for the system audioset, not for other"),
        (
            ["--checkpoint", "gone.pt"],
            r"gone\.pt: no such file; --checkpoint .*v0\.0\.1/mn04_as_mAP_432\.pt$",
        ),
        (["--checkpoint", "{wav}"], r"refused: .*; --checkpoint should .*v0\.0\.1/mn04_as_mAP_432\.pt$"),
        (["--system", "{weights}"], r"is a file, .* --system audioset --checkpoint .*mn01\.pt$"),
        (["--system", "{wav}"], "is a file, should be the folder of a system$"),
        (["--system", "audioste"], r"there is no such folder, and no folder models; did you mean audioset\?"),
        (
            ["--system", "empty"],
            r"the folder empty has no model\.json, and no folder models; give the folder",
        ),
        (["--system", "onnx"], r"^onnx: is an export as ONNX, .* --format folder$"),
        (["--system", "packed"], r"^packed/ust\.json: is missing; copy the exported folder again$"),
    ],
)
def test_invalid_options_are_named(weights, wav, words, message):
    for name in ("empty/a.txt", "onnx/model.onnx", "packed/system/model.json"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    words = [word.format(weights=weights, wav=wav()) for word in words]
    with pytest.raises(UserError, match=message):
        tag.main(argv=[str(wav()), *words])


def test_listen_works_without_a_trained_system(weights, noise, capsys, monkeypatch):
    raw = io.BytesIO((noise * 2**15).astype("<i2").tobytes())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(raw)))
    listen.main(argv=["--checkpoint", str(weights), "--threshold", "0"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    found = [float(row["probability"]) for row in rows]
    wanted = Tagger.load("audioset", checkpoint=weights).predict(noise, RATE)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_tag_archive_works_without_a_trained_system(weights, wav, tmp_path):
    path = wav("in/a.wav")
    tag_archive.main(argv=[str(path.parent), str(tmp_path / "out"), "--checkpoint", str(weights)])
    (file,) = (tmp_path / "out" / "tags").iterdir()
    (row,) = pd.read_parquet(file).to_dict("records")
    (window,) = Tagger.load("audioset", checkpoint=weights).tag(path)
    labels = list(sonyc_taxonomy().labels)
    np.testing.assert_allclose([row[label] for label in labels], window.probabilities, atol=1e-5)


@pytest.mark.whole
def test_export_writes_an_onnx_graph(weights, tmp_path, noise):
    tagger = Tagger.load("audioset", checkpoint=weights, fast=False)
    export.export_onnx(tagger, tmp_path / "a.onnx", properties={"system": "audioset"})
    clips = [noise, 0.1 * np.sin(np.arange(10 * RATE) / 20).astype(np.float32), 0 * noise]
    found = export.compare_with_pytorch(tmp_path / "a.onnx", tagger, clips, threads=1)
    assert found.max_error_end_to_end < 1e-4


def test_model_card_states_that_nothing_was_trained(weights):
    metadata = Tagger.load("audioset", checkpoint=weights).system.metadata
    content = {"size": 5e6, "opset": 20, "samples": 441_000, "sample_rate": RATE, "system": "audioset"}
    card = export.model_card(
        metrics=None, dataset=None, metadata=metadata, labels=metadata["taxonomy"],
        features=metadata["features"], **content,
    )  # fmt: skip
    assert "It tags ten seconds of sound with 37 labels." in card
    assert "Nothing was trained" in card
    assert "Tompkins" not in card
    assert "majority vote" not in card
    assert "Trained with" not in card


@pytest.fixture
def project(weights, tmp_path):
    """A project with six unlabelled clips and three classes, of which AudioSet lacks trams."""
    folder = tmp_path / "city"
    init.main(argv=[str(folder), "--classes", "tram, church bell, voices: speech", "--weights", "mn01_as",
                    "--checkpoint", str(weights)])  # fmt: skip
    for number in range(6):
        path = tmp_path / "sounds" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, 0.1 * np.random.default_rng(number).standard_normal(80_000), 8000)
    import_unlabelled(Collection(folder), sorted((tmp_path / "sounds").iterdir()), tmp_path)
    return folder


def test_new_project_records_audioset_classes(project):
    content = read_yaml(project / "params.yaml")
    assert content["audioset"]["classes"] == {
        "1_tram": [], "2_church bell": ["Church bell"], "3_voices": ["Speech"], "3-1_speech": ["Speech"]
    }  # fmt: skip
    text = (project / "params.yaml").read_text("utf-8")
    assert "    1_tram: []   # no name matches\n" in text


def test_project_tags_before_any_label(project, weights, wav, noise, capsys):
    tagger = Tagger.load(project)
    assert tagger.taxonomy == Collection(project).taxonomy
    found = dict(zip(tagger.taxonomy.labels, tagger.predict(noise, RATE), strict=True))
    reference = Tagger.load("audioset", checkpoint=weights)
    assert found["1_tram"] == 0
    assert found["3-1_speech"] == found["3_voices"] > 0
    params = project / "params.yaml"
    params.write_text(params.read_text("utf-8").replace("1_tram: []", "1_tram: [Jackhammer]"), "utf-8")
    edited = Tagger.load(project).predict(noise, RATE)[0]
    known = dict(zip(reference.taxonomy.labels, reference.predict(noise, RATE), strict=True))
    assert edited == pytest.approx(known["2-2_jackhammer"], abs=1e-6)
    tag.main(argv=[str(wav()), "--system", str(project), "--format", "json"])
    ((recording,),) = (json.loads(capsys.readouterr().out),)
    assert recording["windows"][0]["probabilities"]["tram"] == pytest.approx(edited, abs=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[Church bell]", "[Bells]", "2_church bell: AudioSet has no class 'Bells'; did you mean 'Bell'"),
        ("1_tram: []", "1_trams: []", "1_trams: there is no such label"),
        ("[Church bell]", "Church bell", "2_church bell: is 'Church bell', should be a valid list"),
    ],
)
def test_unknown_classes_of_a_project_are_named(project, old, new, message):
    params = project / "params.yaml"
    params.write_text(params.read_text("utf-8").replace(old, new), "utf-8")
    with pytest.raises(UserError, match=r"(?s)params\.yaml:.*audioset\.classes\." + message):
        Tagger.load(project)


def test_project_without_audioset_classes_is_refused(project):
    params = project / "params.yaml"
    text = params.read_text("utf-8").replace("[Church bell]", "[]").replace("[Speech]", "[]")
    params.write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"audioset\.classes: no label has any"):
        Tagger.load(project)


@pytest.mark.whole
def test_review_starts_from_audioset_predictions(project):
    collection, descriptions = Collection(project), []

    def progress(items, *, total, description, unit="clip"):
        descriptions.append(description)
        return items

    tag_collection(collection, progress=progress)
    assert descriptions == ["embeddings"]  # without the name of the feature
    names, state, predicted = load_review_state(collection)
    tagger = Tagger.load(project)
    for name, row in zip(names, state.predicted, strict=True):
        (window,) = tagger.tag(collection.clip_path(name))
        np.testing.assert_allclose(row, window.probabilities, atol=1e-4)
        assert predicted[name]["3_voices"] == pytest.approx(window.probabilities[2], abs=1e-3)
    assert len(np.unique(state.embeddings, axis=0)) == 6


def test_all_commands_share_one_loader(weights, tmp_path, project, monkeypatch):
    packed = prepare_audioset(checkpoint=weights)
    assert Tagger.load(packed / "system").taxonomy == sonyc_taxonomy()  # a folder of a system
    assert Tagger.load(packed).taxonomy == sonyc_taxonomy()  # an exported folder
    assert Tagger.load(packed.name).taxonomy == sonyc_taxonomy()  # its name in the cache
    shutil.copytree(packed, project / "model")
    assert Tagger.load(project).taxonomy == sonyc_taxonomy()  # a trained project
    with pytest.raises(UserError, match="nothing: no such file or folder; should be the folder of a trained"):
        Tagger.load("nothing")
    with pytest.raises(UserError, match="belongs to the system audioset, not to"):
        Tagger.load(packed, checkpoint=weights)
