"""The benchmarks run and say what they should; how fast anything is, is not tested."""

import json
import subprocess
import sys

from conftest import ROOT

from benchmarks import NAMES
from benchmarks.timing import Pair, measure


def test_a_pair_is_measured_and_its_ratio_is_the_peers_over_ours():
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


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_benchmark_runs_by_name():
    done = run("--one", "evaluation")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["name"] == "evaluation"


def test_an_unknown_name_is_refused():
    done = run("speed")
    assert done.returncode == 2
    assert "there is no benchmark speed" in done.stderr


def test_every_name_is_one_of_the_pairs():
    source = (ROOT / "benchmarks" / "pairs.py").read_text()
    assert all(f"def {name}(self" in source for name in NAMES)
