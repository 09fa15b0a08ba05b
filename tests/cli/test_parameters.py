"""Checks of params.yaml, and inheritance of settings between rows and sections."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from project import change_params
from ruamel.yaml import YAML

from stages import preset
from ust.cli.parameters import SECTIONS, check_params
from ust.features.registry import read_feature
from ust.models.registry import ARCHITECTURES
from ust.training.registry import TRAINERS, read_system_config
from ust.util.config import read_sections
from ust.util.errors import UserError

RELABEL = {
    "rule": "relabel", "threshold": 0.5, "soft": True, "iterations": 40, "false_alarm": 0.018,
    "sensitivity": 0.5, "label_deviation": [1.0, 0.5], "annotator_deviation": [1.0, 1.0], "correlation": 0.5,
    "anchor": 1.0, "coupling": 0.2, "penalty": 1.0, "folds": 5, "rounds": 3,
}  # fmt: skip
WITH_OUTPUTS = RELABEL | {"model_outputs": "data/features/mn.h5"}


@pytest.fixture
def changed(tmp_path):
    """Return a function that writes a copy of params.yaml with some parameters changed."""

    def write(**changes):
        change_params(ROOT / "params.yaml", tmp_path / "params.yaml", changes)
        return tmp_path / "params.yaml"

    return write


def check_message(path, message):
    """Check that a parameter file is refused with a message."""
    with pytest.raises(UserError) as error:
        check_params(path)
    assert message in str(error.value)


def test_report_preset_matches_the_report(tmp_path):
    path, folder = tmp_path / "report.yaml", str(ROOT / "presets")
    preset.main(["report", "--presets", folder, "--params", str(ROOT / "params.yaml"), "--out", str(path)])
    logmel = read_feature(path, "logmel").settings
    majority = check_params(path)["labels"]["majority"]
    cnn, cnn_vggish = (read_system_config(path, name) for name in ("cnn", "cnn_vggish"))
    network, train = cnn_vggish.model, cnn_vggish.training
    assert (majority["threshold"], network.conv_dropout, network.head_dropout) == (0.5, 0.5, 0.2)
    assert (cnn.model.conv_dropout, cnn.model.head_dropout) == (0.5, 0.2)
    assert (train.lr, train.batch_size, train.pos_weight_power) == (0.01, 32, 0.1)
    assert (train.patience, train.reduce_factor, train.min_lr, train.factor_step) == (10, 0.1, 1e-6, 0.1)
    assert (train.optimizer, train.schedule, network.fusion) == ("adam", "stagnation", "bilinear")
    # The report trains a hierarchy's networks like others; the authors' code of June 2019 does not.
    assert train.max_epochs == 300
    for name in ("hierarchical", "hierarchical_negatives"):
        assert read_system_config(path, name).training == train
    code_path = tmp_path / "code.yaml"
    change_params(path, code_path, {"hierarchies.hierarchical.trainer": "train_hierarchical_code"})
    code = read_system_config(code_path, "hierarchical").training
    baseline = read_system_config(path, "baseline_fine")
    assert (code.optimizer, code.lr, code.pos_weight_power) == ("adam", 0.001, 0)
    assert (code.reduce_factor, code.reduce_patience) == (0.1, 5)
    assert (baseline.training.l2, baseline.training.stop_patience) == (1e-5, 20)
    assert baseline.model.hidden_layers == 0
    assert (logmel.sample_rate, logmel.n_fft, logmel.hop_length, logmel.n_mels) == (44100, 2048, 512, 128)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.lr", -1, "train.lr: is -1, should be greater than 0"),
        ("train.lr", float("nan"), "train.lr: is nan, should be a finite number"),
        ("train.lr", "fast", "train.lr: is 'fast', should be a valid number"),
        ("train.learning_rate", 0.1, "train.learning_rate: there is no such parameter"),
        ("train.batchsize", 3, "did you mean train.batch_size?"),
        ("train.max_epochs", 1.5, "train.max_epochs: is 1.5, should be a valid integer"),
        ("labels.majority.threshold", 2, "labels.majority.threshold: is 2, should be less than 1"),
        ("labels.majority.soft", 1, "labels.majority.soft: is 1, should be a valid boolean"),
        ("labels.any.rule", "all", "labels.any.rule: is 'all', should be one of majority, any, fraction"),
        ("labels.any", None, "labels.any: is None, should be a valid dictionary"),
        (
            "embeddings",
            {},
            "systems.cnn_vggish.features: vggish should be rows of spectrograms or embeddings",
        ),
        (
            "spectrograms.mel",
            {"kind": "mel"},
            "spectrograms.mel.kind: is 'mel', should be one of logmel, mn_l",
        ),
        ("spectrograms.vggish", {"kind": "vggish"}, "should be one of logmel, mn_logmel"),
        ("spectrograms.vggish", {"kind": "logmel"}, "embeddings.vggish: there is a spectrogram of that name"),
        ("embeddings.vggish.network", "mn", "embeddings.vggish.network: is 'mn', should be 'vggish'"),
        (
            "embeddings.x",
            {"kind": "onnx", "network": "onnx"},
            "onnx: is missing, should be given: embeddings.x",
        ),
        ("systems.cnn.features", ["logmel", "vggish"], "the architecture cnn takes 1, as its logmel"),
        ("systems.cnn.labels", "all", "systems.cnn.labels: is 'all', should be a row of labels"),
        ("systems.cnn.context", {"dropout": 1.5}, "systems.cnn.context.dropout: is 1.5, should be less than"),
        ("systems.cnn.context", {"size": 3}, "systems.cnn.context.size: there is no such parameter"),
        ("systems.baseline_fine.context", {}, "systems.baseline_fine.context: there is no such parameter"),
        ("systems.cnn.architecture", "rnn", "systems.cnn.architecture: is 'rnn', should be one of cnn"),
        ("systems.cnn.architecture", "frames", "should be one of cnn, cnn_vggish, cnn_mn, head, attention"),
        (
            "systems.cnn.trainer",
            "train_head",
            "architecture: is 'cnn', should be one of head, attention, audioset_head, the architectures of",
        ),
        ("evaluate.labels", "all", "evaluate.labels: is 'all', should be a row of labels"),
        ("checkpoints.cnn.model", "cmm/coarse", "checkpoints.cnn.model: is 'cmm/coarse', should begin with"),
        ("checkpoints.cnn.pooling", "median", "checkpoints.cnn.pooling: is 'median', should be 'mean'"),
        ("submission", "cmm", "submission: is 'cmm', should be one of checkpoints: cnn, "),
        ("data.source", "zenodo", "data.source: is 'zenodo', should be 'synthetic', 'local'"),
        ("data.path", None, "data.path: is None, should be a valid string"),
        ("vggish.checkpoint", "a.ckpt", "checkpoint and pca go together"),
        ("augment.noise.colours", ["mauve"], "augment.noise.colours.0: is 'mauve'"),
        ("augment.noise.level_db", [0.0, -10.0], "[lowest, highest]"),
        ("compute", None, "compute: is None"),
        ("train_finetune.folds", 1, "folds is 1, should be 0 for none, or at least 2"),
        ("systems.cnn.lr", -1.0, "systems.cnn.lr: is -1.0, should be greater than 0"),
        (
            "systems.cnn.trainer",
            "train_forest",
            "systems.cnn.trainer: is 'train_forest', should be one of train",
        ),
        (
            "systems.cnn_vggish.fusoin",
            "concat",
            "systems.cnn_vggish.fusoin: there is no such parameter; did you mean systems.cnn_vggish.fusion?",
        ),
        ("hierarchies.hierarchical.outputs", "all", "hierarchical.outputs: there is no such parameter"),
        (
            "hierarchies.hierarchical.trainer",
            "train",
            "is 'train', should be one of train_hierarchical, train_hierarchical_code",
        ),
        ("hierarchies.hierarchical.flat", "../x", "hierarchies.hierarchical.flat: is '../x'"),
        (
            "hierarchies.cnn",
            {"trainer": "train_hierarchical"},
            "hierarchies.cnn: there is a system of that name",
        ),
        ("spectrograms.logmel.n_mels", 64, "n_mels is 64, should be at least 108"),
        ("spectrograms.logmel.n_mels", 96, "n_mels is 96, should be at least 108"),
        ("spectrograms.logmel.hop_length", 1024, "give 431 frames, should be at least 528"),
        ("systems.baseline_fine.outputs", "all", "systems.baseline_fine.outputs: is 'all', should be 'fine'"),
        (
            "augment.sensor.reverberation",
            [0.0, 0.5],
            "reverberation: is [0.0, 0.5], should be greater than 0",
        ),
        ("augment.sensor.low_cut", 3000.0, "low_cut should be below high_cut"),
        ("augment.sensor", {"low_cut": 22e3, "high_cut": [23e3, 24e3]}, "and below 21609 Hz"),
        ("augment.pitch_shift.semitones", 200.0, "semitones: is 200.0, should be less than or equal to 48"),
        (
            "augment.volume.gain_db",
            1e4,
            "augment.volume.gain_db: is 10000.0, should be less than or equal to",
        ),
        ("augment.noise.level_db", [-20.0, 1e4], "augment.noise.level_db: is [-20.0, 10000.0], should be wi"),
        ("systems.cnn.features", ["vggish"], "vggish is an embedding, the architecture cnn takes a spectro"),
        (
            "systems.baseline_fine.features",
            ["logmel"],
            "logmel is a spectrogram, the architecture frames tak",
        ),
        ("systems.a/b", {"trainer": "train"}, "systems.a/b"),
        ("submission", "../x", "submission: is '../x'"),
        ("model.cnn", {"conv_dropuot": 0.5}, "model.cnn.conv_dropuot: there is no such parameter; did you"),
        ("model.cnn", {"conv_dropout": 2.0}, "model.cnn.conv_dropout: is 2.0, should be less than 1"),
        ("model.cnn", None, "model.cnn: is None, should be a valid dictionary"),
        (
            "model.cnn_vgish",
            {},
            "model.cnn_vgish: there is no such parameter; did you mean model.cnn_vggish?",
        ),
        ("model", [], "model: is []"),
        (
            "label_quality.rules.heard",
            WITH_OUTPUTS,
            "rules.heard.rule: is 'relabel', which needs model outputs",
        ),
    ],
)
def test_invalid_parameter_names_the_allowed_values(changed, name, value, message):
    path = changed(**{name: value})
    check_message(path, message)
    if name.startswith("model"):
        with pytest.raises(UserError) as error:
            read_system_config(path, "cnn")
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "limit", "message"),
    [
        ("mask_bands", 128, "should be at most 128, the bands of the feature (of tuned)"),
        ("mask_frames", 1000, "should be at most 1000, the frames of the feature"),
        ("windows", 500, "should be at most 500"),
    ],
)
def test_mask_and_windows_cannot_exceed_the_spectrogram(changed, key, limit, message):
    row = {
        "trainer": "train_finetune", "network": "efficientat", "architecture": "mobilenet",
        "features": ["mn_logmel"], "labels": "majority", "outputs": "all", "width": 0.4, "windows": 0,
        "hidden_layers": 0, "hidden_size": 8, "dropout": 0.0,
    }  # fmt: skip
    rows = {"spectrograms.mn_logmel": {"kind": "mn_logmel"}}
    check_params(changed(**rows, **{"pretrained.tuned": row | {key: limit}}))
    path = changed(**rows, **{"pretrained.tuned": row | {key: limit + 1}})
    check_message(path, f"{key} is {limit + 1}, {message}")


@pytest.mark.parametrize(
    ("model_outputs", "known"),
    [
        ("data/features/logmel.h5", False),
        ("data/features/mn.h5", False),
        ("data/features/vggish.h5", True),
        ("../theirs/output0.csv", True),
    ],
)
def test_relabel_accepts_only_embeddings_and_predictions(changed, model_outputs, known):
    path = changed(**{"relabel.again": RELABEL | {"model_outputs": model_outputs}})
    if known:
        check_params(path)
    else:
        wanted = "the file of a row of embeddings, data/features/vggish.h5, or a .csv of predictions"
        check_message(path, f"relabel.again.model_outputs: is '{model_outputs}', should be {wanted}")


def test_row_inherits_from_trainer_and_model(changed):
    row = {"trainer": "train", "architecture": "cnn_vggish", "features": ["logmel", "vggish"]}
    row |= {"labels": "majority", "outputs": "fine", "lr": 0.5, "seed": None}
    path = changed(**{"systems.cnn_vggish": row})
    system = read_system_config(path, "cnn_vggish")
    assert (system.row.outputs, system.training.lr, system.model.fusion) == ("fine", 0.5, "concat")
    (train,) = read_sections(path, train=SECTIONS["train"])
    assert (system.training.seed, system.training.patience) == (train.seed, train.patience)
    assert read_system_config(path, "cnn").description == "CNN"
    assert read_system_config(path, "hierarchical").description.startswith("local classifier")
    assert read_system_config(path, "baseline_fine").description.startswith("logistic")
    with pytest.raises(UserError, match="there is no system 'forest'; there are cnn, cnn_vggish"):
        read_system_config(path, "forest")


def test_hierarchy_inherits_train_settings(changed):
    """A row overrides its trainer's section, which overrides the inherited section."""
    changes = {"train.lr": 0.5, "train.seed": 7, "train_hierarchical.lr": 0.25, "train.max_epochs": 9}
    path = changed(**changes)
    system = read_system_config(path, "hierarchical")
    assert (system.training.seed, system.training.lr) == (7, 0.25)
    assert (system.training.max_epochs, system.training.batch_size) == (5, 4)
    assert read_system_config(path, "cnn").training.lr == 0.5
    changed(**{"train.lr": -1})
    with pytest.raises(UserError) as error:
        read_system_config(path, "hierarchical")
    assert "train.lr: is -1" in str(error.value)
    assert "hierarchical" not in str(error.value)


def test_params_yaml_matches_the_defaults():
    """The epochs of the hierarchy are the only exception."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    for name, trainer in TRAINERS.items():
        wanted = {"max_epochs": 5} if name == "train_hierarchical" else {}
        assert trainer.settings(**content[name]) == trainer.settings(**wanted)
    for name, section in content["model"].items():
        config = ARCHITECTURES[name].Config
        assert config(**section) == config()


def test_every_setting_has_a_description_and_one_owner():
    """A key of a row belongs to either the network or the trainer."""
    kinds = [trainer.settings for trainer in TRAINERS.values()]
    kinds += [network.Config for network in ARCHITECTURES.values()]
    for kind in kinds:
        for name, field in kind.model_fields.items():
            assert field.description, f"{kind.__qualname__}.{name}"
    for trainer in TRAINERS.values():
        for architecture in trainer.trains:
            parts = (trainer.row, ARCHITECTURES[architecture].Config, trainer.settings)
            names = [name for kind in parts for name in kind.model_fields]
            assert len(names) == len(set(names)), architecture


def test_all_invalid_parameters_are_listed_at_once(changed):
    path = changed(train={"lr": 0, "rate": 1})
    check_message(path, "train.lr: is 0")
    check_message(path, "train.rate: there is no such parameter")


def test_numbers_written_by_dvc_are_read(tmp_path):
    text = (ROOT / "params.yaml").read_text("utf-8").replace("min_lr: 1.0e-6", "min_lr: 1e-06")
    assert "1e-06" in text
    (tmp_path / "params.yaml").write_text(text)
    assert read_sections(tmp_path / "params.yaml", train=SECTIONS["train"])[0].min_lr == 1e-6


def log_mels_alone(path):
    """Write a parameter file with one feature and the one system that takes it."""
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    content |= {"embeddings": {}, "hierarchies": {}, "submission": "cnn"}
    for table in ("systems", "checkpoints"):
        content[table] = {"cnn": content[table]["cnn"]}
    with path.open("w") as file:
        YAML().dump(content, file)


def test_every_dependency_is_written_by_a_stage(tmp_path):
    """Checked in DVC's graph of params.yaml and of a file with log-mels only."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    Repo.init(tmp_path, no_scm=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for one_feature in (False, True):
        if one_feature:
            log_mels_alone(tmp_path / "params.yaml")
        check_params(tmp_path / "params.yaml")
        found = Repo(tmp_path).index.stages
        assert any(stage.name == "embed@vggish" for stage in found) != one_feature
        made = {Path(out.fs_path) for stage in found for out in stage.outs}
        for stage in found:
            for dep in stage.deps:
                path = Path(dep.fs_path)
                source = (
                    path.relative_to(tmp_path).parts[0] in ("ust", "stages", "params.yaml")
                    or path == tmp_path / "data/local"
                )
                if source or isinstance(dep, ParamsDependency):
                    continue
                inside = [out for out in made if path in out.parents]  # all that is in a folder
                assert inside or made & {path, *path.parents}, f"{stage.name}: no stage makes {path.name}"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        check_params(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(("name", "value"), [("n_mels", 256), ("hop_length", 256), ("n_mels", 108)])
def test_smallest_spectrogram_of_the_network_is_accepted(changed, name, value):
    content = check_params(changed(**{f"spectrograms.logmel.{name}": value}))
    assert content["spectrograms"]["logmel"][name] == value
