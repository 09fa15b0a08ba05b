"""Training: labels, batches, the loop and its checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ust.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ust.errors import UserError
from ust.examples import select
from ust.features import check_same_rows, open_features
from ust.inference import complete_probabilities, output_labels, predict
from ust.labels import read_labels
from ust.models import CNNVGGish, NetworkConfig
from ust.training import Recipe, positive_weights, train

CPU = torch.device("cpu")
CONFIG = NetworkConfig(outputs=37, fusion="concat", conv_dropout=0.5, head_dropout=0.2)
RECIPE = Recipe(2019, "all", 0.01, 4, 2, 0.1, 10, 0.1, 1e-6, 0.1)


@pytest.mark.parametrize(
    ("power", "wanted"), [(0, [1, 1, 1, 1]), (1, [3, 1, 1, 1]), (0.1, [3**0.1, 1, 1, 1])]
)
def test_positive_weights(power, wanted):
    targets = np.array([[1, 0, 1, 0.5], [0, 0, 1, 0.5], [0, 0, 1, 1], [0, 0, 1, 0]])
    np.testing.assert_allclose(positive_weights(targets, power), wanted)


def test_coarse_is_the_maximum_of_its_fine_labels(taxonomy):
    fine = np.random.default_rng(0).random((4, 29)).astype(np.float32)
    everything = complete_probabilities(fine, output_labels("fine", taxonomy), taxonomy)
    np.testing.assert_array_equal(everything[:, 8:], fine)
    np.testing.assert_array_equal(everything[:, 0], fine[:, :4].max(axis=1))
    np.testing.assert_array_equal(everything[:, 7], fine[:, 28])
    coarse = complete_probabilities(fine[:, :8], output_labels("coarse", taxonomy), taxonomy)
    np.testing.assert_array_equal(coarse[:, :8], fine[:, :8])
    assert (coarse[:, 8:] == 0).all()


@pytest.fixture
def labels(tmp_path, taxonomy):
    """labels.csv of six train and four validate clips."""
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
    logmel_file, vggish_file = feature_files(KEYS)
    with open_features(logmel_file, "logmel") as logmel, open_features(vggish_file, "vggish") as vggish:
        check_same_rows(logmel, vggish)
        columns = list(taxonomy.labels)
        yield (
            select("train", labels, columns, logmel, vggish, variants=True),
            select("validate", labels, columns, logmel, vggish, variants=False),
        )


def test_variants_carry_their_clips_labels(examples, labels):
    train_set, validate = examples
    assert len(train_set) == 7
    assert len(validate) == 4
    clips = train_set.logmel.clip[train_set.rows]
    np.testing.assert_array_equal(
        train_set.targets, labels.loc[clips].drop(columns="split").to_numpy(np.float32)
    )


def test_batches_follow_the_order_and_none_has_one_example(examples):
    train_set, _ = examples
    order = np.array([6, 1, 3, 2, 0, 5, 4])
    batches = list(train_set.batches(3, order=order, device=CPU))
    assert [len(targets) for _, _, targets in batches] == [3, 4]
    targets = torch.cat([batch[2] for batch in batches]).numpy()
    np.testing.assert_array_equal(targets, train_set.targets[order])


def test_training_repeats_to_the_bit_and_learns(examples, taxonomy):
    def run():
        torch.manual_seed(0)
        network = CNNVGGish(CONFIG)
        epochs = []
        train(network, *examples, taxonomy, RECIPE, device=CPU, on_epoch=epochs.append)
        return network, epochs

    network, epochs = run()
    again, epochs_again = run()
    assert epochs == epochs_again
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
    assert epochs[0].best == ("coarse", "fine")
    assert epochs[-1].loss < epochs[0].loss
    assert [epoch.number for epoch in epochs] == [1, 2]


def test_training_coarse_labels_alone_scores_coarse_alone(examples, taxonomy):
    train_set, validate = examples
    train_set = replace(train_set, targets=train_set.targets[:, :8])
    epochs = []
    network = CNNVGGish(replace(CONFIG, outputs=8))
    recipe = replace(RECIPE, labels="coarse", max_epochs=1)
    train(network, train_set, validate, taxonomy, recipe, device=CPU, on_epoch=epochs.append)
    assert epochs[0].best == ("coarse",)


def test_a_diverging_run_stops_with_advice(examples, taxonomy):
    network = CNNVGGish(CONFIG)
    with torch.no_grad():
        network.head[-1].bias.fill_(float("inf"))
    with pytest.raises(UserError, match=r"a smaller train\.lr may help"):
        train(network, *examples, taxonomy, RECIPE, device=CPU, on_epoch=lambda _: None)


def test_a_checkpoint_predicts_what_the_network_did(examples, taxonomy, tmp_path):
    torch.manual_seed(1)
    network = CNNVGGish(CONFIG)
    save_checkpoint(tmp_path / "model", Checkpoint(network, list(taxonomy.labels), {"epoch": 1}))
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.labels == list(taxonomy.labels)
    wanted = predict(network, examples[1], batch_size=3, device=CPU)
    found = predict(loaded.network, examples[1], batch_size=3, device=CPU)
    np.testing.assert_array_equal(found, wanted)
    assert wanted.shape == (4, 37)
    assert 0 < wanted.min() < wanted.max() < 1


@pytest.mark.parametrize("damage", ["weights", "description", "missing", "other"])
def test_a_damaged_checkpoint_is_named(taxonomy, tmp_path, damage):
    folder = tmp_path / "model"
    save_checkpoint(folder, Checkpoint(CNNVGGish(CONFIG), list(taxonomy.labels), {}))
    if damage == "weights":
        (folder / "weights.safetensors").write_bytes(b"\x08" + bytes(20))
    elif damage == "description":
        (folder / "model.json").write_text('{"network": ')
    elif damage == "missing":
        (folder / "model.json").unlink()
    else:
        (folder / "model.json").write_text('{"network": {"depth": 3}, "labels": [], "about": {}}')
    with pytest.raises(UserError, match="model"):
        load_checkpoint(folder)


def test_labels_and_features_must_be_of_the_same_clips(feature_files, labels, taxonomy):
    paths = feature_files([*KEYS[1:], ("x.wav", "original", "train")])
    with open_features(paths[0], "logmel") as logmel, open_features(paths[1], "vggish") as vggish:
        with pytest.raises(UserError) as error:
            select("train", labels, list(taxonomy.labels), logmel, vggish, variants=True)
        assert "0.wav has labels but no features" in str(error.value)
        assert "x.wav has features but no labels" in str(error.value)
        with pytest.raises(UserError, match="has no clips"):
            select("test", labels, list(taxonomy.labels), logmel, vggish, variants=True)


def test_feature_files_must_be_of_the_same_rows(feature_files, tmp_path):
    first, _ = feature_files(KEYS)
    first = first.rename(tmp_path / "other.h5")
    _, second = feature_files(KEYS[1:])
    with (
        open_features(first, "logmel") as logmel,
        open_features(second, "vggish") as vggish,
        pytest.raises(UserError, match="different clips"),
    ):
        check_same_rows(logmel, vggish)
