"""Examples, networks, checkpoints and hierarchies in training."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny import BASELINE as TINY_BASELINE
from tiny import CODE, CONFIG, CPU, FLAT, changed, trainer

from ust.annotations.labels import read_labels
from ust.features.store import open_feature_files
from ust.models.checkpoints import SavedNetwork, load_network, load_system, save_network
from ust.models.cnn_vggish import CNNVGGish
from ust.models.examples import predict, select_examples
from ust.models.frames import FrameClassifier
from ust.models.outputs import complete_labels, output_labels
from ust.models.systems import CalibratedClassifier, FlatSystem, FrameSystem, HierarchicalSystem, pool_frames
from ust.training import train_baseline as baseline
from ust.training import train_hierarchical as hierarchical
from ust.training.losses import positive_weights
from ust.training.train import flat_score
from ust.training.trainer import monitor_scores
from ust.util.accelerate import accelerate
from ust.util.errors import UserError

INPUTS = {"logmel": "logmel", "vggish": "vggish"}
COMMON = {"seed": 2019, "lr": 0.01, "batch_size": 4, "pos_weight_power": 0.1, "precision": "float32"}
SYSTEM = changed(FLAT, COMMON | {"max_epochs": 2, "patience": 10, "min_lr": 1e-6})
HIERARCHICAL = changed(
    CODE,
    COMMON
    | {"root": "own", "max_epochs": 30, "optimizer": "rmsprop", "reduce_patience": 1}
    | {"reduce_factor": 0.2, "stop_patience": 3},
)
BASELINE = changed(
    TINY_BASELINE,
    {"lr": 0.001, "max_epochs": 400, "stop_patience": 5, "l2": 1e-5, "standardize": True},
)


@pytest.mark.parametrize(
    ("power", "wanted"), [(0, [1, 1, 1, 1]), (1, [3, 1, 1, 1]), (0.1, [3**0.1, 1, 1, 1])]
)
def test_positive_weights_are_ratio_of_negatives_to_a_power(power, wanted):
    targets = np.array([[1, 0, 1, 0.5], [0, 0, 1, 0.5], [0, 0, 1, 1], [0, 0, 1, 0]])
    np.testing.assert_allclose(positive_weights(targets, power), wanted)


def test_complete_labels_takes_coarse_as_maximum_of_fine(taxonomy):
    fine = np.random.default_rng(0).random((4, 29)).astype(np.float32)
    everything = complete_labels(torch.from_numpy(fine), output_labels("fine", taxonomy), taxonomy).numpy()
    np.testing.assert_array_equal(everything[:, 8:], fine)
    np.testing.assert_array_equal(everything[:, 0], fine[:, :4].max(axis=1))
    np.testing.assert_array_equal(everything[:, 7], fine[:, 28])
    coarse = complete_labels(
        torch.from_numpy(fine[:, :8]), output_labels("coarse", taxonomy), taxonomy
    ).numpy()
    np.testing.assert_array_equal(coarse[:, :8], fine[:, :8])
    assert (coarse[:, 8:] == 0).all()


@pytest.fixture
def labels(tmp_path, taxonomy):
    """Labels of six train and four validate clips."""
    rng = np.random.default_rng(0)
    rows = ["split,audio_filename," + ",".join(taxonomy.labels)]
    for i in range(10):
        values = ",".join(str(v) for v in rng.integers(0, 2, 37))
        rows.append(f"{'train' if i < 6 else 'validate'},{i}.wav,{values}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return read_labels(tmp_path / "labels.csv", taxonomy)


KEYS = [(f"{i}.wav", "original", "train" if i < 6 else "validate") for i in range(10)] + [
    ("2.wav", "noise", "train")
]


@pytest.fixture
def examples(feature_files, labels, taxonomy):
    path, _ = feature_files(KEYS)
    with open_feature_files(path.parent, INPUTS) as features:
        columns = list(taxonomy.labels)
        yield (
            select_examples("train", labels, columns, features, variants=True),
            select_examples("validate", labels, columns, features, variants=False),
        )


def test_variants_have_the_labels_of_their_clip(examples, labels):
    train_set, validate = examples
    assert len(train_set) == 7
    assert len(validate) == 4
    clips = train_set.features["logmel"].clip[train_set.rows]
    np.testing.assert_array_equal(
        train_set.targets, labels.loc[clips].drop(columns="split").to_numpy(np.float32)
    )


def test_batches_follow_the_order_and_have_at_least_two_examples(examples):
    train_set, _ = examples
    order = np.array([6, 1, 3, 2, 0, 5, 4])
    batches = list(train_set.batches(3, order=order, device=CPU))
    assert [len(targets) for _, targets in batches] == [3, 4]
    targets = torch.cat([batch[1] for batch in batches]).numpy()
    np.testing.assert_array_equal(targets, train_set.targets[order])


def train_flat(network, examples, taxonomy, system, **options):
    """Train like `ust.training.train.fit_flat`, without saving anything."""
    train_set, validate = examples
    score = flat_score(output_labels(system.row.outputs, taxonomy), validate.targets, taxonomy)
    monitor = monitor_scores(validate, score, 2 * system.training.batch_size)
    return trainer(network, train_set, system, monitor=monitor, **options).fit()


def network_of(outputs=37, **changes):
    """Return the report's network with accelerated layers."""
    return accelerate(CNNVGGish(CONFIG.model_copy(update=changes), outputs))


def test_training_repeats_to_the_bit_and_learns(examples, taxonomy):
    def run():
        torch.manual_seed(0)
        network = network_of()
        epochs = []
        train_flat(network, examples, taxonomy, SYSTEM, on_epoch=epochs.append)
        return network, epochs

    network, epochs = run()
    again, epochs_again = run()
    assert epochs == epochs_again
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
    assert epochs[0].best == ("coarse", "fine")
    assert epochs[-1].loss < epochs[0].loss
    assert [epoch.number for epoch in epochs] == [1, 2]


def test_diverging_training_stops_with_advice(examples, taxonomy):
    network = network_of()
    with torch.no_grad():
        network.head[-1].bias.fill_(float("inf"))
    with pytest.raises(UserError, match="a smaller lr may help"):
        train_flat(network, examples, taxonomy, SYSTEM, on_epoch=lambda _: None)


@pytest.mark.parametrize(
    ("optimizer", "kind", "precision"),
    [("adam", torch.optim.Adam, "bfloat16"), ("rmsprop", torch.optim.RMSprop, "float32")],
)
def test_training_learns_with_each_optimizer_and_precision(examples, optimizer, kind, precision):
    system = changed(SYSTEM, {"optimizer": optimizer, "precision": precision, "lr": 0.001})
    torch.manual_seed(0)
    network = network_of()
    loop = trainer(network, examples[0], system)
    assert type(loop.optimizer(network.parameters(), lr=0.1)) is kind
    losses = [loop.train_epoch(number) for number in (1, 2, 3)]
    assert losses[-1] < losses[0]
    assert all(parameter.dtype is torch.float32 for parameter in network.parameters())


def test_checkpoint_predicts_like_the_network(examples, taxonomy, tmp_path):
    torch.manual_seed(1)
    network = network_of().eval()
    saved = SavedNetwork(network, "cnn_vggish", CONFIG, list(taxonomy.labels), {"epoch": 1})
    save_network(tmp_path / "model", saved)
    loaded = load_network(tmp_path / "model")
    assert loaded.labels == list(taxonomy.labels)
    wanted = predict(CalibratedClassifier(network, []), examples[1], batch_size=3, device=CPU)
    plain = predict(CalibratedClassifier(loaded.network.eval(), []), examples[1], batch_size=3, device=CPU)
    np.testing.assert_allclose(plain, wanted, atol=1e-6)
    found = predict(
        CalibratedClassifier(accelerate(loaded.network), []), examples[1], batch_size=3, device=CPU
    )
    np.testing.assert_array_equal(found, wanted)
    assert wanted.shape == (4, 37)
    assert 0 < wanted.min() < wanted.max() < 1


@pytest.mark.parametrize("damage", ["weights", "description", "missing", "other"])
def test_damaged_checkpoint_is_named(taxonomy, tmp_path, damage):
    folder = tmp_path / "model"
    save_network(folder, SavedNetwork(network_of(), "cnn_vggish", CONFIG, list(taxonomy.labels), {}))
    if damage == "weights":
        (folder / "weights.safetensors").write_bytes(b"\x08" + bytes(20))
    elif damage == "description":
        (folder / "model.json").write_text('{"network": ')
    elif damage == "missing":
        (folder / "model.json").unlink()
    else:
        (folder / "model.json").write_text(
            '{"architecture": "cnn", "config": {"depth": 3}, "shapes": {}, "labels": [], "metadata": {}}'
        )
    with pytest.raises(UserError, match="model"):
        load_network(folder)


def test_select_examples_names_clips_without_labels_or_features(feature_files, labels, taxonomy):
    paths = feature_files([*KEYS[1:], ("x.wav", "original", "train")])
    with open_feature_files(paths[0].parent, INPUTS) as features:
        with pytest.raises(UserError) as error:
            select_examples("train", labels, list(taxonomy.labels), features, variants=True)
        assert "0.wav has labels but no features" in str(error.value)
        assert "x.wav has features but no labels" in str(error.value)
        # In other splits, clips without labels are unverified clips.
        known = select_examples(
            "validate", labels.drop("7.wav"), list(taxonomy.labels), features, variants=False
        )
        assert list(features["logmel"].clip[known.rows]) == ["6.wav", "8.wav", "9.wav"]
        with pytest.raises(UserError, match=r"y\.wav has labels but no features"):
            select_examples("validate", labels.rename({"7.wav": "y.wav"}), [], features, variants=False)
        with pytest.raises(UserError, match="has no clips"):
            select_examples("test", labels, list(taxonomy.labels), features, variants=True)


def test_feature_files_with_different_rows_are_refused(feature_files, tmp_path):
    first, _ = feature_files(KEYS)
    (tmp_path / "others").mkdir()
    first.rename(tmp_path / "others" / "logmel.h5")
    _, second = feature_files(KEYS[1:])
    second.rename(tmp_path / "others" / "vggish.h5")
    with pytest.raises(UserError, match="different clips"), open_feature_files(tmp_path / "others", INPUTS):
        pass


class TestHierarchical:
    """Local classifiers per parent node."""

    def test_each_node_has_the_clips_of_its_group(self, examples, taxonomy):
        found = list(hierarchical.build_nodes(*examples, taxonomy, negatives=False, root=True))
        assert [node.name for node in found] == ["root", *[taxonomy.coarse[g] for g in (0, 1, 3, 4, 5, 6)]]
        train_set, validate = examples
        for node in found[1:]:
            group = taxonomy.coarse.index(node.name)
            for own, everything in ((node.train, train_set), (node.validate, validate)):
                inside = everything.targets[:, group] == 1
                np.testing.assert_array_equal(own.rows, everything.rows[inside])
                columns = [taxonomy.labels.index(label) for label in node.labels]
                np.testing.assert_array_equal(own.targets, everything.targets[np.ix_(inside, columns)])
            assert all(label.startswith(f"{group + 1}-") for label in node.labels)
        np.testing.assert_array_equal(found[0].train.targets, train_set.targets[:, :8])

    def test_negatives_add_all_clips_and_one_output(self, examples, taxonomy):
        plain = list(hierarchical.build_nodes(*examples, taxonomy, negatives=False, root=True))
        found = list(hierarchical.build_nodes(*examples, taxonomy, negatives=True, root=True))
        assert [node.name for node in found] == [node.name for node in plain]
        for node, before in zip(found[1:], plain[1:], strict=True):
            assert node.labels == [*before.labels, "other"]
            assert len(node.train) == len(examples[0])
            other = node.train.targets[:, -1] == 1
            np.testing.assert_array_equal(node.train.rows[~other], before.train.rows)
            np.testing.assert_array_equal(node.train.targets[~other, :-1], before.train.targets)

    def test_groups_with_fewer_than_two_clips_are_left_out(self, examples, taxonomy):
        train_set, validate = examples
        targets = train_set.targets.copy()
        targets[:, 0] = 0
        targets[:, 3] = np.eye(len(targets))[0]
        found = hierarchical.build_nodes(
            train_set.subset(slice(None), targets), validate, taxonomy, negatives=False, root=False
        )
        names = [node.name for node in found]
        assert hierarchical.untrained_groups(names, taxonomy) == ["1_engine", "4_powered-saw"]

    def test_root_with_other_inputs_is_refused(self, taxonomy, tmp_path):
        """A root that takes time and place would fail at the first prediction of a hierarchy without them."""
        metadata = {"inputs": INPUTS | {"context": "context"}}
        saved = SavedNetwork(network_of(8), "cnn_vggish", CONFIG, list(taxonomy.coarse), metadata)
        save_network(tmp_path / "root", saved)
        context = SimpleNamespace(
            root=tmp_path / "root", name="hierarchical", metadata={"inputs": INPUTS}, out=tmp_path / "out"
        )
        with pytest.raises(UserError, match="takes context as its context, hierarchical does not"):
            hierarchical.copy_root(context)
        context.metadata = metadata
        assert hierarchical.copy_root(context).metadata == metadata

    def test_saved_hierarchy_predicts_by_the_rule(self, examples, taxonomy, tmp_path):
        names = ["root", "1_engine", "7_human-voice"]
        networks = {}
        for index, (name, outputs) in enumerate(zip(names, (8, 4, 6), strict=True)):
            torch.manual_seed(index)
            networks[name] = network_of(outputs).eval()
            labels = [label for label in taxonomy.fine if label[:2] == name[0] + "-"] + ["other"]
            labels = list(taxonomy.coarse) if name == "root" else labels[:outputs]
            save_network(tmp_path / name, SavedNetwork(networks[name], "cnn_vggish", CONFIG, labels, {}))
        (tmp_path / "model.json").write_text(
            json.dumps({"kind": "hierarchy", "nodes": names, "metadata": {"a": 1}})
        )
        system = load_system(tmp_path, taxonomy=taxonomy)
        assert isinstance(system, HierarchicalSystem)
        assert system.metadata == {"a": 1}
        found = predict(accelerate(system), examples[1], batch_size=3, device=CPU)
        coarse, engine, voice = (
            predict(CalibratedClassifier(networks[name], []), examples[1], batch_size=3, device=CPU)
            for name in names
        )
        np.testing.assert_array_equal(found[:, :8], coarse)
        for clip in range(len(found)):
            wanted = np.zeros(29, np.float32)
            wanted[taxonomy.group.index(2)] = coarse[clip, 2]
            wanted[taxonomy.group.index(7)] = coarse[clip, 7]
            runs = set(np.flatnonzero(coarse[clip] > 0.5)) | {coarse[clip].argmax()}
            if 0 in runs:
                wanted[:4] = engine[clip]
            if 6 in runs:
                start = taxonomy.group.index(6)
                known = min(6, taxonomy.group.count(6))
                wanted[start : start + known] = voice[clip][:known]
            np.testing.assert_allclose(found[clip, 8:], wanted, atol=1e-6)


class TestBaseline:
    """Logistic regression of frames."""

    def test_baseline_outputs_are_complete_fine_or_coarse_labels(self, taxonomy):
        fine = baseline.baseline_labels("fine", taxonomy)
        assert len(fine) == 23
        assert not any("-X_" in label for label in fine)
        coarse = baseline.baseline_labels("coarse", taxonomy)
        assert coarse == list(taxonomy.coarse)

    def test_loss_is_masked_where_x_label_is_present(self, taxonomy):
        columns = baseline.baseline_labels("fine", taxonomy)
        targets = np.zeros((2, 37), np.float32)
        targets[1, taxonomy.labels.index("1-X_engine-of-uncertain-size")] = 1
        mask = baseline.loss_mask(targets, columns, taxonomy)
        assert (mask[0] == 1).all()
        for value, label in zip(mask[1], columns, strict=True):
            assert value == (not label.startswith("1-"))

    @pytest.mark.parametrize("outputs", ["fine", "coarse"])
    def test_baseline_matches_scikit_learn_logistic_regression(self, examples, taxonomy, outputs):
        """After convergence the weights equal those of the same regularised problem."""
        l2 = 0.01 if outputs == "coarse" else 0.01 * 70 * 23
        whole = {"batch_size": 70, "max_epochs": 3000, "stop_patience": 3000}
        system = changed(BASELINE, {"outputs": outputs, "l2": l2, "lr": 0.01} | whole)
        train_set, validate = examples
        targets = train_set.targets.copy()
        x_labels = [taxonomy.labels.index(label) for label in taxonomy.fine if "-X_" in label]
        targets[:, x_labels] = 0
        train_set = train_set.subset(slice(None), targets)
        kept = {}

        def keep(epoch, network):
            kept["network"] = network

        baseline.fit_frame_classifier(
            train_set, validate, taxonomy, system, device=CPU, name="b", on_epoch=keep
        )
        labels = baseline.baseline_labels(outputs, taxonomy)
        frames = train_set.features["vggish"][train_set.rows].reshape(-1, 128).astype(np.float64)
        standardised = (frames - frames.mean(axis=0)) / frames.std(axis=0)
        layer = kept["network"].layers.output
        column = next(
            i for i, name in enumerate(labels) if 0 < targets[:, taxonomy.labels.index(name)].sum() < 7
        )
        y = targets[:, taxonomy.labels.index(labels[column])].repeat(10)
        # The challenge's loss is, for fine labels, summed over a batch's frames (70) and labels, for coarse
        # ones their mean; l2 |w|² is added. scikit-learn's C is of the sum over the frames of one label.
        c = 1 / (2 * l2) if outputs == "fine" else 1 / (2 * l2 * len(y) * len(labels))
        reference = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(standardised, y)
        np.testing.assert_allclose(layer.weight[column].detach(), reference.coef_[0], atol=2e-3)
        np.testing.assert_allclose(layer.bias[column].detach(), reference.intercept_, atol=5e-3)

    def test_frame_pooling_matches_definitions(self):
        frames = torch.tensor([[[0.2, 0.9], [0.6, 0.1]]])
        torch.testing.assert_close(pool_frames(frames, "mean"), torch.tensor([[0.4, 0.5]]))
        torch.testing.assert_close(pool_frames(frames, "max"), torch.tensor([[0.6, 0.9]]))
        a, b = np.exp(0.2), np.exp(0.6)
        wanted = (a * 0.2 + b * 0.6) / (a + b)
        assert pool_frames(frames, "softmax")[0, 0].item() == pytest.approx(wanted)


def test_flat_system_infers_coarse_from_fine(examples, taxonomy, tmp_path):
    torch.manual_seed(0)
    saved = SavedNetwork(network_of(29), "cnn_vggish", CONFIG, list(taxonomy.fine), {"parameters": 1})
    save_network(tmp_path, saved)
    system = load_system(tmp_path, taxonomy=taxonomy)
    assert isinstance(system, FlatSystem)
    found = predict(system, examples[1], batch_size=2, device=CPU)
    np.testing.assert_array_equal(found[:, 0], found[:, 8:12].max(axis=1))
    assert system.metadata == {"parameters": 1}


@pytest.mark.parametrize("outputs", ["all", "fine"])
def test_coarse_at_least_fine_raises_coarse_probabilities(examples, taxonomy, tmp_path, outputs):
    torch.manual_seed(0)
    labels = output_labels(outputs, taxonomy)
    save_network(tmp_path, SavedNetwork(network_of(len(labels)), "cnn_vggish", CONFIG, labels, {}))
    plain, raised = (
        predict(
            load_system(tmp_path, coarse_at_least_fine=switch, taxonomy=taxonomy),
            examples[1], batch_size=2, device=CPU,
        )
        for switch in (False, True)
    )  # fmt: skip
    k = len(taxonomy.coarse)
    np.testing.assert_array_equal(raised[:, k:], plain[:, k:])
    for group in range(k):
        columns = [group, *(k + index for index in taxonomy.fine_indices(group))]
        np.testing.assert_array_equal(raised[:, group], plain[:, columns].max(axis=1))
    assert (raised != plain).any() == (outputs == "all")


def test_loaded_baseline_keeps_its_standardization(examples, taxonomy, tmp_path):
    config = FrameClassifier.Config(hidden_layers=1, hidden_size=16)
    network = FrameClassifier(config, 8)
    network.standardised.mean.fill_(120.0)
    save_network(tmp_path, SavedNetwork(network, "frames", config, list(taxonomy.coarse), {}), kind="frames")
    system = load_system(tmp_path, pooling="max", taxonomy=taxonomy)
    assert isinstance(system, FrameSystem)
    found = predict(system, examples[1], batch_size=2, device=CPU)
    frames = torch.from_numpy(examples[1].features["vggish"][examples[1].rows])
    np.testing.assert_allclose(
        found[:, :8], torch.sigmoid(network(frames)).amax(1).detach().numpy(), rtol=1e-6
    )
    assert (found[:, 8:] == 0).all()


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"kind": "forest"},
        {"kind": "hierarchy", "metadata": {}},
        {"kind": "hierarchy", "nodes": [], "metadata": {}},
        {"kind": "frames", "metadata": {}, "architecture": "frames", "labels": [], "config": {"size": 3}},
        {"kind": "flat", "metadata": {}, "architecture": "forest", "labels": [], "config": {}},
    ],
)  # fmt: skip
def test_invalid_model_json_is_named(tmp_path, taxonomy, description):
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"model\.json"):
        load_system(tmp_path, taxonomy=taxonomy)
