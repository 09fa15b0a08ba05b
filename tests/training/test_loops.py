"""The training loop: rates, order, optimizer, loss, monitoring and state."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CODE, FLAT, Tiny, changed, train, train_on_plateau, trainer
from torch.nn import functional

from ust.training.trainer import Epoch, Trainer, TrainingState, epochs_since_best
from ust.util.errors import UserError


class TestStagnation:
    """The schedules of the report's system."""

    def test_rate_and_optimizer_restart_when_nothing_improves(self, data):
        """With patience 1, the rate changes after two epochs without a new best."""
        state, rates_kept, steps_kept = TrainingState(), [], []

        def write():
            rates_kept.append(state.values["optimizer"][0]["lr"])
            steps_kept.append(int(state.tensors.get("optimizer.0.step", 0)))

        state.write = write
        scores = [{"coarse": 0.5, "fine": 0.5}] + [{"coarse": 0.5, "fine": 0.4}] * 9
        system = changed(FLAT, {"max_epochs": 10})
        epochs = train(Tiny(37), data, system, *scores, state=state)
        rates = [0.01] * 3 + [0.001] * 2 + [0.01] * 2 + [0.002] * 2 + [0.0004]
        np.testing.assert_allclose([epoch.lr for epoch in epochs], rates, rtol=1e-9)
        assert [epoch.restarts for epoch in epochs] == [0] * 5 + [1] * 5
        # Two steps per epoch; a new optimizer has made none yet, and has the new rate.
        np.testing.assert_allclose(rates_kept, [*rates[1:], 0.0004], rtol=1e-9)
        assert steps_kept == [2, 4, 0, 2, 0, 2, 0, 2, 0, 2]

    def test_adam_step_has_the_learning_rate_of_its_epoch(self, data):
        """The first step of Adam moves each weight by the learning rate."""
        network, moved, before = Tiny(37), [], {}
        system = changed(FLAT, {"batch_size": 12, "patience": 0, "max_epochs": 3})

        def on_epoch(epoch):
            moved.append((network.layer.bias.detach() - before["bias"]).abs().max().item())
            before["bias"] = network.layer.bias.detach().clone()

        before["bias"] = network.layer.bias.detach().clone()
        train(network, data, system, *[{"coarse": 0.5}] + [{"coarse": 0.1}] * 2, on_epoch=on_epoch)
        # After the second epoch the rate is a tenth, and the optimizer is new.
        assert moved[0] == pytest.approx(0.01, rel=1e-3)
        assert moved[2] == pytest.approx(0.001, rel=1e-3)

    def test_cosine_schedule_sets_the_rate_of_every_step(self, data, monkeypatch):
        rates, step = [], torch.optim.Adam.step

        def stepping(optimizer, *given, **named):
            rates.append(optimizer.param_groups[0]["lr"])
            return step(optimizer, *given, **named)

        monkeypatch.setattr(torch.optim.Adam, "step", stepping)
        change = {"schedule": "cosine", "lr": 0.3, "warm_up": 0.2, "max_epochs": 3, "batch_size": 6}
        epochs = train(Tiny(37), data, changed(FLAT, change), *[{"coarse": 0.1}] * 3)
        assert len(data.train) == 12  # two steps an epoch
        assert max(rates) == 0.3  # after a warm-up of 0.2 × 6 steps: one
        wanted = 0.3 * (1 + np.cos(np.pi * np.arange(6) / 6)) / 2
        np.testing.assert_allclose(rates, wanted, rtol=1e-12)
        np.testing.assert_allclose([epoch.lr for epoch in epochs], wanted[1::2], rtol=1e-12)
        assert [epoch.restarts for epoch in epochs] == [0] * 3

    def test_best_epoch_needs_a_strictly_higher_score(self, data):
        scores = [(0.2, 0.0), (0.2, 0.1), (0.3, 0.1), (0.1, 0.1), (0.3, 0.2)]
        system = changed(FLAT, {"max_epochs": 5})
        epochs = train(Tiny(37), data, system, *[{"coarse": c, "fine": f} for c, f in scores])
        assert [epoch.best for epoch in epochs] == [("coarse", "fine"), ("fine",), ("coarse",), (), ("fine",)]
        assert [epoch.scores["coarse"] for epoch in epochs] == [0.2, 0.2, 0.3, 0.1, 0.3]
        assert epochs[1].figures() == {
            "loss": epochs[1].loss, "coarse": 0.2, "fine": 0.1, "lr": 0.01, "restarts": 0
        }  # fmt: skip

    def test_improvement_of_any_level_resets_patience(self, data):
        scores = [{"coarse": 0.1, "fine": 0.1 * i} for i in range(1, 9)]
        assert {epoch.lr for epoch in train(Tiny(37), data, FLAT, *scores)} == {0.01}

    @pytest.mark.parametrize(("last", "patience", "wanted"), [(3, 1, False), (2, 1, True), (2, 2, False)])
    def test_stagnation_begins_after_the_patience(self, last, patience, wanted):
        def epoch(number, *best):
            return Epoch(number, 0.0, {}, 0.01, 0, best)

        epochs = [epoch(1, "fine", "coarse"), epoch(2), epoch(3, "coarse"), epoch(4)]
        epochs[last - 1] = replace(epochs[last - 1], best=("fine",))
        assert (epochs_since_best(epochs, "fine") > patience) == wanted

    def test_state_is_saved_after_every_epoch_and_restores_epochs(self, data, tmp_path):
        scores = [{"coarse": 0.1 * i} for i in range(1, 9)]
        whole = train(Tiny(37), data, FLAT, *scores)
        path, network, reported = tmp_path / "s.safetensors", Tiny(37), []
        train(network, data, changed(FLAT, {"max_epochs": 5}), *scores, state=TrainingState.read(path))
        state = TrainingState.read(path)
        assert [entry["number"] for entry in state.epochs] == [1, 2, 3, 4, 5]
        found = train(Tiny(37), data, FLAT, *scores[5:], state=state, on_epoch=reported.append)
        assert [epoch.number for epoch in found] == list(range(1, 9))
        assert [epoch.best for epoch in found] == [epoch.best for epoch in whole]
        assert reported == found[5:]
        path.write_bytes(path.read_bytes()[:500])
        assert TrainingState.read(path).epochs == []


class TestTrainer:
    """One epoch."""

    def test_every_epoch_shuffles_all_examples(self, data):
        network = Tiny(37)
        loop = trainer(network, data.train, FLAT)
        orders = []
        for number in (1, 2, 3):
            network.seen.clear()
            loop.train_epoch(number)
            assert [len(batch) for batch in network.seen] == [8, 4]
            orders.append([int(row) for batch in network.seen for row in batch])
        rows = sorted(int(row) for row in data.train.rows)
        assert all(sorted(order) == rows for order in orders)
        assert len({tuple(order) for order in [*orders, rows]}) == 4

    @pytest.mark.parametrize(("change", "same"), [({}, True), ({"seed": 1}, False)])
    def test_order_and_dropout_depend_on_the_seed(self, data, change, same):
        def run(system, name="a"):
            torch.manual_seed(0)
            network = Tiny(37, dropout=0.5)
            loss = trainer(network, data.train, system, name=name).train_epoch(1)
            return network.seen, loss

        first, second = run(FLAT), run(changed(FLAT, change))
        assert (first == second) == same
        assert run(FLAT, "another") != first

    def test_loss_is_the_mean_weighted_cross_entropy(self, data):
        network = Tiny(37)
        system = changed(FLAT, {"batch_size": 12, "pos_weight_power": 0.5})
        targets = data.train.targets.astype(np.float64)
        weight = ((12 - targets.sum(0)) / targets.sum(0)) ** 0.5
        with torch.no_grad():
            p = torch.sigmoid(network(None, torch.from_numpy(data.train.features["vggish"][data.train.rows])))
        p = p.numpy().astype(np.float64)
        wanted = -(weight * targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
        loop = trainer(network, data.train, system)
        assert loop.mean_loss(data.train, 16) == pytest.approx(wanted, rel=1e-5)
        assert loop.train_epoch(1) == pytest.approx(wanted, rel=1e-5)

    def test_monitored_loss_uses_evaluation_mode_and_changes_nothing(self, data):
        network = Tiny(37, dropout=0.9)
        loop = trainer(network, data.train, FLAT)
        loop.train_epoch(1)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        random = torch.get_rng_state()
        losses = {loop.mean_loss(data.validate, 16) for _ in range(3)}
        assert len(losses) == 1
        assert torch.equal(torch.get_rng_state(), random)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        logits = network.eval()(None, torch.from_numpy(data.validate.features["vggish"][data.validate.rows]))
        weight = torch.from_numpy(fit_weights(data.train.targets))
        wanted = functional.binary_cross_entropy_with_logits(
            logits.double(), torch.tensor(data.validate.targets).double(), pos_weight=weight
        )
        assert losses.pop() == pytest.approx(wanted.item(), rel=1e-5)


def fit_weights(targets):
    """Return (negatives / positives) ** 0.1 of targets that have both."""
    positives = targets.astype(np.float64).sum(0)
    return ((len(targets) - positives) / positives) ** 0.1


class TestKeptWeights:
    """Moving averages, the best epoch, modules that are not trained."""

    def test_weights_of_the_best_epoch_are_restored(self, data):
        network, weights = Tiny(37), []
        losses = iter([0.5, 0.4, 0.6, 0.4, 0.7])

        def monitor(loop):
            weights.append(network.layer.weight.detach().clone())
            return {"validation_loss": next(losses)}

        options = {"monitor": monitor, "mode": "min", "stop_patience": 3, "restore_best": True}
        epochs = trainer(network, data.train, FLAT, **options).fit()
        assert [epoch.best for epoch in epochs] == [("validation_loss",)] * 2 + [()] * 3
        assert torch.equal(network.layer.weight, weights[1])
        assert not torch.equal(network.layer.weight, weights[4])

    def test_averaged_weights_are_the_moving_average_of_all_steps(self, data):
        network, steps = Tiny(37), []
        step = torch.optim.Adam.step

        class Recording(torch.optim.Adam):
            def step(self, *given):
                step(self, *given)
                steps.append(network.layer.weight.detach().clone())

        loop = trainer(network, data.train, changed(FLAT, {"max_epochs": 2}), average=0.75)
        loop.optimizer = Recording
        loop._reset_optimizer()
        loop.fit()
        wanted = steps[0]
        for weights in steps[1:]:
            wanted = 0.75 * wanted + 0.25 * weights
        torch.testing.assert_close(loop.trained.layer.weight.detach(), wanted)
        assert loop.trained is not network

    def test_recorded_value_does_not_choose_the_epoch(self, data):
        options = {"monitor": lambda _: {"coarse": 0.5}, "mode": None}
        epochs = trainer(Tiny(37), data.train, changed(FLAT, {"max_epochs": 2}), **options).fit()
        assert [(epoch.best, epoch.scores) for epoch in epochs] == [((), {"coarse": 0.5})] * 2

    def test_nonfinite_validation_loss_stops_training(self, data):
        options = {"monitor": lambda _: {"validation_loss": float("nan")}, "mode": "min"}
        with pytest.raises(UserError, match="the loss is no longer finite in epoch 1"):
            trainer(Tiny(37), data.train, FLAT, **options).fit()

    def test_eval_modules_stay_in_evaluation_mode(self, data):
        network, modes = Tiny(37, dropout=0.5), []
        network.dropout.register_forward_hook(lambda module, *_: modes.append(module.training))
        trainer(network, data.train, FLAT, eval_modules=[network.dropout]).train_epoch(1)
        trainer(network, data.train, FLAT).train_epoch(1)
        assert modes == [False] * 2 + [True] * 2

    def test_sampler_determines_the_order(self, data):
        network = Tiny(37)
        trainer(network, data.train, FLAT, sampler=lambda rng: np.array([3, 3, 1])).train_epoch(1)
        rows = data.train.rows[[3, 3, 1]].tolist()
        assert [int(row) for batch in network.seen for row in batch] == rows


class TestPlateau:
    """The authors' code."""

    def test_plateau_reduces_rate_and_stops(self, data, monkeypatch):
        losses = iter([1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.9, 0.9])
        monkeypatch.setattr(Trainer, "mean_loss", lambda *_: next(losses))
        system = changed(CODE, {"max_epochs": 20, "reduce_patience": 1, "stop_patience": 4})
        epochs = train_on_plateau(Tiny(37), data.train, data.validate, system)
        assert [bool(epoch.best) for epoch in epochs] == [True, True, False, False, False, False]
        np.testing.assert_allclose([epoch.lr for epoch in epochs], [0.01] * 4 + [0.001] * 2)
        assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5, 6]
        assert epochs_since_best(epochs) == 4
        assert epochs[0].figures() == {
            "loss": epochs[0].loss, "validation_loss": 1.0, "lr": 0.01, "restarts": 0
        }  # fmt: skip
