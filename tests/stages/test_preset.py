"""The stage preset, which sets parameters from preset files and single settings."""

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from stages import preset
from ust.cli.parameters import check_params
from ust.util.errors import UserError


def set_parameters(tmp_path, *changes):
    """Run the stage on a copy of params.yaml; return the new content."""
    out = tmp_path / "params.yaml"
    preset.main([*changes, "--presets", str(ROOT / "presets"), "--params", str(ROOT / "params.yaml"),
                 "--out", str(out)])  # fmt: skip
    return check_params(out)


@pytest.mark.parametrize("names", [["pretrained"], ["report"], ["v2"], ["pretrained", "leaderboard"]])
def test_preset_sets_all_its_values(tmp_path, names):
    def contains(content, wanted):
        for key, value in wanted.items():
            if isinstance(value, dict):
                contains(content[key], value)
            else:
                assert content.get(key) == value

    wanted = YAML(typ="safe").load((ROOT / "presets" / f"{names[-1]}.yaml").read_text("utf-8"))
    contains(set_parameters(tmp_path, *names), wanted)


def test_the_presets_are_those_that_are_tested():
    names = {path.stem for path in (ROOT / "presets").iterdir()}
    assert names == {"pretrained", "report", "leaderboard", "v2"}


def test_comments_are_kept_and_settings_override_the_preset(tmp_path):
    content = set_parameters(tmp_path, "report", "train.lr=0.5", "data.release=null", "systems.cnn.seed=3")
    assert (content["train"]["lr"], content["train"]["batch_size"]) == (0.5, 32)
    assert content["data"]["release"] is None
    assert content["systems"]["cnn"]["seed"] == 3
    comments = [line.partition("#")[2] for line in (ROOT / "params.yaml").read_text("utf-8").splitlines()]
    text = (tmp_path / "params.yaml").read_text("utf-8")
    assert all(comment in text for comment in comments)


def test_null_removes_a_row(tmp_path):
    content = set_parameters(tmp_path, "checkpoints.cnn=null", "systems.cnn=null")
    assert "cnn" not in content["systems"] | content["checkpoints"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "reprot",
            "reprot: should be NAME.OF.PARAMETER=VALUE or a preset; .* leaderboard, pretrained, report, v2",
        ),
        ("train.lr=-1", "train.lr: is -1, should be greater than 0"),
        ("train.lr=[", "its value is not YAML"),
    ],
)
def test_invalid_change_leaves_the_file_unchanged(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        set_parameters(tmp_path, change)
    assert not (tmp_path / "params.yaml").exists()
