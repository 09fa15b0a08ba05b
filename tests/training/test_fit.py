"""Checkpoints and metadata that trainers save."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import ALONE, BASELINE, CODE, CPU, FLAT, HIERARCHY, changed, fit, is_of_epoch

from ust.models.checkpoints import SavedNetwork, load_system, read_description, save_network, update_metadata
from ust.models.cnn import CNN
from ust.models.frames import FrameClassifier
from ust.models.outputs import OTHER
from ust.models.systems import FrameSystem
from ust.training import train as flat
from ust.training import train_baseline as baseline
from ust.training import train_hierarchical as hierarchical
from ust.training.train import flat_score
from ust.training.trainer import Trainer
from ust.util.errors import UserError


def script(scores):
    """Return a score function with given results, one for each epoch."""
    left = iter(scores)
    return lambda outputs: next(left)


class TestFlat:
    """One network; two checkpoints."""

    def test_each_level_keeps_the_weights_of_its_best_epoch(self, data, work, monkeypatch):
        scores = [(0.1, 0.1), (0.3, 0.2), (0.2, 0.4), (0.25, 0.3)]
        scores = [{"coarse": c, "fine": f} for c, f in scores]
        monkeypatch.setattr(flat, "flat_score", lambda *_: script(scores))
        fit(changed(FLAT, {"max_epochs": 4, "patience": 1}), data, work)
        weights = work.callbacks.weights
        assert len(weights) == 4
        for level, best, score in (("coarse", 2, 0.3), ("fine", 3, 0.4)):
            folder = work.out / level
            assert [is_of_epoch(folder, w) for w in weights] == [i + 1 == best for i in range(4)]
            metadata = read_description(folder)["metadata"]
            assert (metadata["epoch"], metadata[f"{level}_micro_auprc"]) == (best, score)
            assert metadata["epochs"] == 4
            # The last best coarse epoch is two ago, more than the patience; the last best fine one is not.
            assert metadata["converged"] == (level == "coarse")
            assert metadata["outputs"] == "all"
            assert metadata["parameters"] == 128 * 37 + 37
            assert metadata["architecture"] == "tiny"
        assert read_description(work.out / "fine")["labels"] == list(work.taxonomy.labels)
        assert not list(work.out.glob("*.safetensors"))

    def test_coarse_network_saves_only_a_coarse_checkpoint(self, data, work):
        fit(changed(FLAT, {"outputs": "coarse", "max_epochs": 1}), data, work)
        assert [path.name for path in work.out.iterdir()] == ["coarse"]
        assert read_description(work.out / "coarse")["labels"] == list(work.taxonomy.coarse)

    def test_training_resumes_and_reports_it(self, data, work, monkeypatch):
        scores = [{"coarse": 0.1 * i, "fine": 0.1} for i in range(1, 5)]
        monkeypatch.setattr(flat, "flat_score", lambda *_: script(scores[:2]))
        fit(changed(FLAT, {"max_epochs": 2}), data, work)
        monkeypatch.setattr(flat, "flat_score", lambda *_: script(scores[2:]))
        fit(changed(FLAT, {"max_epochs": 4}), data, work)
        assert work.callbacks.resumed == [("", [1, 2])]
        assert [epoch.number for _, epoch in work.callbacks.epochs] == [1, 2, 3, 4]
        assert read_description(work.out / "coarse")["metadata"]["epoch"] == 4
        assert read_description(work.out / "fine")["metadata"]["epoch"] == 1

    def test_fine_outputs_are_scored_at_both_levels(self, taxonomy):
        truth = np.eye(37, dtype=np.float32)
        assert set(flat_score(list(taxonomy.fine), truth, taxonomy)(truth[:, 8:])) == {"coarse", "fine"}
        assert set(flat_score(list(taxonomy.coarse), truth, taxonomy)(truth[:, :8])) == {"coarse"}


class TestHierarchy:
    """A root and a network for each group with several fine labels."""

    @pytest.fixture
    def root(self, tmp_path, taxonomy):
        """A checkpoint of a flat network of all outputs."""
        metadata = {"taxonomy": None, "features": {"logmel": {}}, "epoch": 3, "converged": True}
        save_network(
            tmp_path / "flat", SavedNetwork(CNN(ALONE, 37), "cnn", ALONE, list(taxonomy.labels), metadata)
        )
        return tmp_path / "flat"

    def test_root_is_a_copy_of_the_flat_network(self, data, work, root):
        fit(changed(HIERARCHY, {"max_epochs": 1}), data, replace(work, root=root))
        for name in ("weights.safetensors", "model.json"):
            assert (work.out / "root" / name).read_bytes() == (root / name).read_bytes()
        description = read_description(work.out)
        nodes = description["nodes"]
        assert nodes[0] == "root"
        assert nodes[1:] == [work.taxonomy.coarse[g] for g in (0, 1, 3, 4, 5, 6)]
        assert {node for node, _ in work.callbacks.epochs} == set(nodes[1:])
        flat = sum(value.numel() for value in CNN(ALONE, 37).parameters())
        own = sum(129 * len(read_description(work.out / node)["labels"]) for node in nodes[1:])
        assert description["metadata"]["parameters"] == flat + own
        assert description["metadata"]["converged"] is False

    @pytest.mark.parametrize("converged", [True, False])
    def test_hierarchy_has_converged_if_all_networks_have(self, data, work, root, monkeypatch, converged):
        scores = iter([0.3, 0.2, 0.1] * 6)
        monkeypatch.setattr(hierarchical, "node_score", lambda *_: lambda outputs: {"fine": next(scores)})
        update_metadata(root, converged=converged)
        change = {"max_epochs": 3, "patience": 1}
        fit(changed(HIERARCHY, change), data, replace(work, root=root))
        assert read_description(work.out)["metadata"]["converged"] is converged

    def test_own_root_has_the_coarse_outputs(self, data, work):
        fit(changed(HIERARCHY, {"max_epochs": 1, "root": "own"}), data, work)
        assert read_description(work.out / "root")["labels"] == list(work.taxonomy.coarse)
        assert "coarse" in read_description(work.out / "root")["metadata"]
        assert "fine" in read_description(work.out / "1_engine")["metadata"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({}, "name its checkpoint with --root"),
            ({"features": {"logmel": {"n_mels": 256}}}, "trained with another logmel"),
        ],
        ids=["none", "other"],
    )
    def test_unsuitable_root_is_named(self, data, work, root, change, message):
        if change:
            work = replace(work, root=root, metadata=work.metadata | change)
        with pytest.raises(UserError, match=message):
            fit(HIERARCHY, data, work)

    def test_each_node_keeps_its_best_epoch(self, data, work, monkeypatch):
        scores = iter([0.1, 0.3, 0.2] * 7)
        monkeypatch.setattr(hierarchical, "node_score", lambda *_: lambda outputs: {"fine": next(scores)})
        fit(changed(HIERARCHY, {"max_epochs": 3, "root": "own", "patience": 0}), data, work)
        for index, node in enumerate(read_description(work.out)["nodes"]):
            weights = work.callbacks.weights[3 * index : 3 * index + 3]
            assert [is_of_epoch(work.out / node, w) for w in weights] == [False, True, False]
            metadata = read_description(work.out / node)["metadata"]
            assert (metadata["epoch"], metadata["fine"], metadata["epochs"], metadata["converged"]) == (
                2,
                0.3,
                3,
                True,
            )
        assert read_description(work.out)["metadata"]["converged"] is True

    def test_authors_code_keeps_lowest_loss_of_each_node(self, data, work, monkeypatch):
        losses = iter([0.3, 0.1, 0.2] * 7)
        monkeypatch.setattr(Trainer, "mean_loss", lambda *_: next(losses))
        fit(changed(CODE, {"max_epochs": 3, "root": "own", "stop_patience": 2}), data, work)
        for index, node in enumerate(read_description(work.out)["nodes"]):
            weights = work.callbacks.weights[3 * index : 3 * index + 3]
            assert [is_of_epoch(work.out / node, w) for w in weights] == [False, True, False]
            metadata = read_description(work.out / node)["metadata"]
            assert (metadata["epoch"], metadata["validation_loss"], metadata["converged"]) == (2, 0.1, False)

    def test_group_score_ignores_other_groups(self, data, taxonomy):
        """The score is micro AUPRC over the group's fine labels."""
        both = data.train, data.validate
        nodes = {
            node.name: node for node in hierarchical.build_nodes(*both, taxonomy, negatives=True, root=True)
        }
        node = nodes["7_human-voice"]
        score = hierarchical.node_score(node, taxonomy)
        outputs = node.validate.targets.copy()
        outputs[:, -1] = np.random.default_rng(0).random(len(outputs))
        assert score(outputs) == {"fine": 1.0}
        assert score(1 - node.validate.targets)["fine"] < 0.7
        root = nodes["root"]
        assert hierarchical.node_score(root, taxonomy)(root.validate.targets) == {"coarse": 1.0}

    def test_node_without_validate_clips_is_monitored_on_train(self, data, taxonomy):
        targets = data.validate.targets.copy()
        voice = [8 + index for index in taxonomy.fine_indices(6)]
        targets[:, voice] = 0
        validate = data.validate.subset(slice(None), targets)
        nodes = hierarchical.build_nodes(data.train, validate, taxonomy, negatives=True, root=False)
        for node in nodes:
            assert node.labels[-1] == OTHER
            assert node.monitored is (node.train if node.name == "7_human-voice" else node.validate)


class TestBaseline:
    """Logistic regression of frames."""

    def test_baseline_keeps_its_best_checkpoint(self, data, work, monkeypatch):
        losses = iter([0.5, 0.3, 0.4, 0.6])
        calls = []

        def scripted(self, *_):
            calls.append({name: value.clone() for name, value in self.network.state_dict().items()})
            return next(losses)

        monkeypatch.setattr(Trainer, "mean_loss", scripted)
        fit(BASELINE, data, work)
        assert [is_of_epoch(work.out, weights) for weights in calls] == [False, True, False, False]
        metadata = read_description(work.out)["metadata"]
        assert (metadata["epoch"], metadata["epochs"], metadata["converged"]) == (2, 4, True)
        assert metadata["validation_loss"] == pytest.approx(0.3)
        assert metadata["outputs"] == "fine"
        system = load_system(work.out, pooling="max", taxonomy=work.taxonomy)
        assert isinstance(system, FrameSystem)
        assert (system.classifier.labels, system.pooling) == (
            baseline.baseline_labels("fine", work.taxonomy),
            "max",
        )

    def test_labels_masked_by_x_label_have_no_gradient(self, data, taxonomy):
        """If every clip has a group's X label, the weights of the group's labels do not change."""
        targets = data.train.targets.copy()
        targets[:, [taxonomy.labels.index(label) for label in taxonomy.fine if "-X_" in label]] = 0
        targets[:, taxonomy.labels.index("1-X_engine-of-uncertain-size")] = 1
        part = data.train.subset(slice(None), targets)

        def weights(lr):
            kept = []
            system = changed(BASELINE, {"max_epochs": 1, "lr": lr, "standardize": True})
            options = {"device": CPU, "name": "b", "on_epoch": lambda _, network: kept.append(network)}
            baseline.fit_frame_classifier(part, part, taxonomy, system, **options)
            return kept[0].layers.output.weight.detach()

        moved = (weights(0.01) - weights(1e-30)).abs().amax(dim=1) > 1e-6
        labels = baseline.baseline_labels("fine", taxonomy)
        assert moved.tolist() == [not label.startswith("1-") for label in labels]

    def test_baseline_l2_matches_the_challenge_with_summed_loss(self, taxonomy):
        assert baseline.summed_terms(BASELINE, taxonomy) == 16 * 23
        assert baseline.summed_terms(changed(BASELINE, {"outputs": "coarse"}), taxonomy) == 1

    def test_baseline_shuffles_frames(self, data, taxonomy, monkeypatch):
        seen = []
        real = FrameClassifier.forward

        def forward(self, vggish):
            if self.training and not torch.is_inference_mode_enabled():
                seen.append(vggish[:, 0].tolist())
            return real(self, vggish)

        monkeypatch.setattr(FrameClassifier, "forward", forward)
        system = changed(BASELINE, {"max_epochs": 2, "batch_size": 1000})
        options = {"device": CPU, "name": "b", "on_epoch": lambda *_: None}
        baseline.fit_frame_classifier(data.train, data.validate, taxonomy, system, **options)
        first, second = seen
        assert sorted(first) == sorted(second)
        assert first != second
