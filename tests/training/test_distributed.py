"""Training in several processes: the same gradients as in one, and errors that name the process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from project import change_params

from ust.models.registry import ARCHITECTURES
from ust.training import distributed
from ust.training.distributed import SyncedBatchNorm2d, convert_sync_batchnorm
from ust.util.accelerate import accelerate
from ust.util.errors import UserError

# Run by torchrun; the first process saves the gradients of each case.
STEP = """
import sys, torch
from torch import nn
sys.path[:0] = {places!r}
from test_distributed import gradients
from ust.training import distributed
distributed.init_process_group({count}, torch.device("cpu"))
found = {{name: gradients(**case) for name, case in {cases!r}.items()}}
if distributed.rank() == 0:
    torch.save(found, {out!r})
"""


class Stored:
    """Random features."""

    def __init__(self, size):
        self.values = np.random.default_rng(0).standard_normal((size, 1, 6, 8)).astype(np.float32)

    def __getitem__(self, rows):
        return self.values[rows]


class Small(torch.nn.Module):
    """A convolution, a batch norm and a linear layer, without dropout."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Sequential(
            torch.nn.Linear(4 * 4 * 6, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)
        )

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))).flatten(1))


def gradients(size, *, synchronised=True, batch=None):
    """Train an epoch, by default of one batch; return the last step's gradients, the buffers and the loss."""
    from tiny import FLAT, changed, trainer

    from ust.models.examples import Examples

    torch.manual_seed(0)
    network = Small()
    if synchronised and distributed.world_size() > 1:
        convert_sync_batchnorm(network)
    targets = (np.random.default_rng(1).random((size, 3)) < 0.4).astype(np.float32)
    examples = Examples({"x": Stored(size)}, np.arange(size), targets)
    system = changed(FLAT, {"batch_size": batch or size, "lr": 0.0})
    loss = trainer(network, examples, system).train_epoch(1)
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    found |= {name: buffer.float() for name, buffer in network.named_buffers()}
    return found | {"loss": torch.tensor(loss)}


def run_processes(folder, count, cases):
    """Compute `gradients` with the arguments of each case in several processes; return them by case."""
    out, script = folder / "found.pt", folder / "step.py"
    places = [str(Path(__file__).parent), str(ROOT / "tests"), str(ROOT)]
    script.write_text(STEP.format(count=count, cases=cases, places=places, out=str(out)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    done = subprocess.run([*command, str(count), script], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


TWO = {"even": {"size": 16}, "uneven": {"size": 13}, "local": {"size": 16, "synchronised": False}}


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """The gradients of each case of TWO, computed by two processes."""
    return run_processes(tmp_path_factory.mktemp("two"), 2, TWO)


@pytest.mark.parametrize("case", ["even", "uneven"])
def test_distributed_gradients_equal_those_of_one_process(by_two, case):
    for name, value in gradients(**TWO[case]).items():
        torch.testing.assert_close(by_two[case][name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_last_batch_smaller_than_world_size_is_trained_on(tmp_path):
    """Three processes, ten examples in batches of eight: in the last step one process has no example.

    The batch norm of two examples divides by a small difference, which amplifies rounding errors.
    """
    case = {"size": 10, "batch": 8}
    found = run_processes(tmp_path, 3, {"last": case})["last"]
    for name, value in gradients(**case).items():
        tolerance = 1e-4 * max(1.0, value.abs().max().item())
        torch.testing.assert_close(found[name], value, atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize(("architecture", "fusion"), [("cnn_vggish", "bilinear"), ("cnn9", None)])
def test_process_with_empty_batch_contributes_zero_gradients(monkeypatch, architecture, fusion):
    """Also with the accelerated layers: every gradient exists and is 0."""
    shapes = {"logmel": (128, 862)} | ({"vggish": (10, 128)} if fusion else {})
    kind = ARCHITECTURES[architecture]
    options = {"fusion": fusion, "vggish_scale": None, "conv_dropout": 0.2, "head_dropout": 0.2}
    config = kind.Config(**{name: options[name] for name in kind.Config.model_fields})
    network = kind(config, 5, shapes).train()
    network = accelerate(convert_sync_batchnorm(network))
    # As if the other processes had eight examples.
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.add_(8))
    found = network(**{name: torch.zeros(0, *shape) for name, shape in shapes.items()})
    assert found.shape == (0, 5)
    found.sum().backward()
    assert all(parameter.grad.eq(0).all() for parameter in network.parameters())


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (4, 8)], ids=["batch", "examples"])
def test_local_batch_norm_needs_two_examples_per_process(monkeypatch, size, batch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(UserError, match=r"a batch has 4 examples, should have at least 6: two for each of 3"):
        gradients(size, synchronised=False, batch=batch)


def test_local_batch_norm_differs_from_synchronized(by_two):
    assert (by_two["local"]["first.weight"] - gradients(16)["first.weight"]).abs().max() > 1e-4


def test_state_dict_is_the_same_with_and_without_synchronization():
    plain = Small()
    other = convert_sync_batchnorm(Small())
    assert isinstance(other.norm, SyncedBatchNorm2d)
    other.load_state_dict(plain.state_dict())
    x = torch.randn(4, 1, 6, 8)
    torch.testing.assert_close(other.eval()(x), plain.eval()(x))


def train(project, *words):
    return [
        sys.executable, "-m", "stages.train", "cnn", "data/features", "data/labels",
        "data/raw/dcase-ust-taxonomy.yaml", "two/cnn", "two/history.csv", "--params", "two.yaml", *words,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def two(project):
    """The finished project with compute.processes set to 2."""
    change_params(
        project.path / "params.yaml",
        project.path / "two.yaml",
        {"compute.processes": 2, "systems.cnn.max_epochs": 3},
    )
    return project


@pytest.mark.slow
def test_killed_process_is_reported_and_training_resumes(two):
    with subprocess.Popen(
        train(two), cwd=two.path, env=two.environment, stderr=subprocess.PIPE, text=True
    ) as running:
        states = two.path / "two" / ".cnn.partial"
        while not list(states.glob("**/cnn.safetensors")):
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.05)
        for pid in subprocess.run(
            ["ps", "--no-headers", "-o", "pid", "--ppid", str(running.pid)], capture_output=True, text=True
        ).stdout.split():
            if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(int(pid), signal.SIGKILL)
        message = running.communicate()[1]
    assert running.returncode == 1
    assert "process 1 of 2 was ended by SIGKILL" in message
    assert "Traceback" not in message
    output = two.run(*train(two))
    assert "trained on" in output
    model = json.loads((two.path / "two/cnn/coarse/model.json").read_text())
    assert model["architecture"] in ARCHITECTURES
    assert len((two.path / "two/history.csv").read_text().splitlines()) == 4


@pytest.mark.slow
def test_wrong_world_size_is_refused(two):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*command, *train(two)[1:]], cwd=two.path, env=two.environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "torchrun started 3 processes, compute.processes is 2" in done.stderr
