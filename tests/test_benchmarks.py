"""The benchmarks run and report ratios; durations are not tested."""

import json

import pytest
import torch
from conftest import ROOT
from ruamel.yaml import YAML

from benchmarks import scaling
from benchmarks.__main__ import main
from benchmarks.timing import Pair, measure


def test_ratio_is_peer_time_over_our_time():
    calls = []

    def ours():
        calls.append("ours")

    def theirs():
        calls.append("theirs")
        sum(range(200_000))

    result = measure(Pair("a", "b", ours, theirs, "call", flop=10.0, rounds=3), gflops=1.0)
    assert calls == ["ours", "theirs"] * 4  # a warm-up, then alternating
    assert result["ratio"] > 1
    assert {"name", "peer", "ours_s", "peer_s", "ratio", "limit_fraction"} <= set(result)


def test_a_benchmark_runs_by_name(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "--one", "evaluation"])
    monkeypatch.setattr("benchmarks.__main__.prepare_device", lambda **_: torch.device("cpu"))
    main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["name"] == "evaluation"


def test_an_unknown_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "there is no benchmark speed" in capsys.readouterr().err


def test_slopes_and_extrapolated_durations():
    """Durations grow as a power of the number of clips."""

    def of(clips):
        return {
            "log-mel": {"seconds": 0.01 * clips, "peak_mib": 512.0},
            "an epoch of training": {"seconds": 0.06 * clips, "peak_mib": 1024.0},
            "prediction": {"seconds": 1e-4 * clips**1.5, "peak_mib": 1024.0},
            "logmel.h5": {"bytes": 130_000 * clips},
        }

    results = {100: of(100), 400: of(400), 1600: of(1600)}
    for clips in (100, 400):
        results[clips] |= {
            "VGGish": {"seconds": 0.08 * clips, "peak_mib": 0.0},
            "vggish.h5": {"bytes": clips},
        }
    found = scaling.slopes(results)
    assert found["log-mel"] == pytest.approx(1)
    assert found["prediction"] == pytest.approx(1.5)
    assert "page" not in found
    lines = scaling.table(results).splitlines()
    assert "| VGGish | 80 ms, 0.00 GiB | 80 ms, 0.00 GiB | – | 1.00 |" in lines
    assert "| log-mel | 10 ms, 0.50 GiB | 10 ms, 0.50 GiB | 10 ms, 0.50 GiB | 1.00 |" in lines
    hours, epoch = 18_510 * (0.01 + 0.08) / 3600, 18_510 * 0.06 / 60
    minutes = 18_510 * 1e-4 * 1600**0.5 / 60
    wanted = f"| SONYC-UST v2 | 18,510 | {hours:.2f} | {epoch:.1f} | {minutes:.1f} | 2.41 GB |"
    assert wanted in scaling.real_data(results).splitlines()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("labels", "aggregate_labels@majority"),
        ("label rules", "label_quality"),
        ("log-mel", "extract@logmel"),
        ("VGGish", "embed@vggish"),
        ("an epoch of training", "train@cnn"),
        ("prediction", "predict@cnn"),
        ("evaluation", "evaluate@cnn"),
        ("page", "page"),
    ],
)
def test_scaling_runs_the_commands_of_the_pipeline(name, address):
    """It may omit the options --annotations, --dataset and --without-seconds, which do not add work."""

    def split_options(command):
        """Return the module with its positional arguments, and the set of options with their values."""
        positional, *options = command.removeprefix("python -m ").split(" --")
        return positional, {tuple(option.split()) for option in options}

    lock = YAML(typ="safe").load(ROOT / "dvc.lock")
    positional, options = split_options(lock["stages"][address]["cmd"])
    found, found_options = split_options(scaling.STAGES[name])
    assert found == positional
    assert found_options <= options
    assert {name for name, *_ in options - found_options} <= {"annotations", "dataset", "without-seconds"}
