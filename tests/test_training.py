"""The network, the schedule and the training loop against the report."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ust.checkpoints import Checkpoint, load_checkpoint, parameter_count, save_checkpoint
from ust.errors import UserError
from ust.examples import select
from ust.features import check_same_rows, open_features
from ust.inference import complete_probabilities, output_labels, predict
from ust.labels import read_labels
from ust.layers import Dropout, StridedConv2d
from ust.models import CNNVGGish, ConvBlock, NetworkConfig
from ust.schedule import StagnationSchedule
from ust.training import Recipe, positive_weights, train

CPU = torch.device("cpu")
CONFIG = NetworkConfig(outputs=37, fusion="concat", conv_dropout=0.5, head_dropout=0.2)
RECIPE = Recipe(2019, "all", 0.01, 4, 2, 0.1, 10, 0.1, 1e-6, 0.1)


def test_shapes_and_weights_of_table_1():
    network = CNNVGGish(CONFIG).eval()
    x = torch.zeros(2, 1, 128, 862)
    wanted = [
        ((8, 128, 862), 8 + 8),
        ((16, 128, 862), 8 * 16 * 9 + 16),
        ((32, 8, 12), 16 * 32 * 16 * 128 + 32),
        ((64, 3, 5), 32 * 64 * 25 + 64),
        ((128, 1, 2), 64 * 128 * 25 + 128),
        ((256, 1, 1), 128 * 256 * 9 + 256),
    ]
    with torch.inference_mode():
        for block, (shape, weights) in zip(network.convolutions, wanted, strict=True):
            x = block(x)
            assert tuple(x.shape) == (2, *shape)
            assert parameter_count(block[0]) == weights
            assert parameter_count(block) == weights + 2 * shape[0]


@pytest.mark.parametrize(
    ("fusion", "fused"), [("concat", 1536 * 512 + 512), ("bilinear", 256 * 1280 * 512 + 512)]
)
def test_weights_of_the_head(fusion, fused):
    with torch.device("meta"):
        network = CNNVGGish(NetworkConfig(37, fusion, 0.5, 0.2))
    assert parameter_count(network.fusion) == fused
    assert parameter_count(network.head) == 2 * 512 + 512 * 256 + 256 + 2 * 256 + 256 * 37 + 37


def test_the_network_takes_stored_features():
    network = CNNVGGish(CONFIG).eval()
    logits = network(
        torch.zeros(3, 128, 862, dtype=torch.float16), torch.zeros(3, 10, 128, dtype=torch.uint8)
    )
    assert logits.shape == (3, 37)


@settings(deadline=None, max_examples=15)
@given(
    stride=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    times=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    size=st.tuples(st.integers(20, 33), st.integers(20, 37)),
    seed=st.integers(0, 999),
)
def test_strided_convolution_equals_the_plain_one(stride, times, padding, size, seed):
    torch.manual_seed(seed)
    kernel = (stride[0] * times[0], stride[1] * times[1])
    fast = StridedConv2d(3, 5, kernel, stride, padding).double()
    plain = nn.Conv2d(3, 5, kernel, stride, padding).double()
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, wanted = fast(inputs[0]), plain(inputs[1])
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(wanted)
    (found * weight).sum().backward()
    (wanted * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)
    torch.testing.assert_close(fast.bias.grad, plain.bias.grad)


def test_block_3_uses_it_and_others_do_not():
    network = CNNVGGish(CONFIG)
    strided = [isinstance(block[0], StridedConv2d) for block in network.convolutions]
    assert strided == [False, False, True, False, False, False]
    assert all(isinstance(block, ConvBlock) for block in network.convolutions)
    with pytest.raises(ValueError, match="whole multiple"):
        StridedConv2d(1, 1, (5, 5), (2, 2), (1, 1))


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 1001, requires_grad=True)
    layer = Dropout(p)
    y = layer(x)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=4e-3)
    assert y.mean().item() == pytest.approx(1, abs=5e-3)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    columns = (y == 0).float().mean(dim=0)
    assert columns.std() < 0.03  # no position of the random words is special
    assert layer.eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_schedule_against_the_description():
    """Rates worked out by hand from the report's description, for a score that never improves again."""
    schedule = StagnationSchedule(
        initial_lr=0.01, patience=10, reduce_factor=0.1, min_lr=1e-6, factor_step=0.1
    )
    rates = []
    for epoch in range(1, 150):
        rates.append(schedule.lr)
        fresh = schedule.step(improved=epoch == 1)
        assert fresh == (epoch > 1 and (epoch - 1) % 11 == 0)
    # Epoch 1 improves; every eleven stagnant epochs the rate changes: × 0.1 to 1e-5, whose tenth is 1e-6:
    # back to 0.01 with × 0.2, down to 0.01 × 0.2⁵ = 3.2e-6, whose fifth is 6.4e-7: back with × 0.3.
    wanted = [0.01] * 12
    for rate in (1e-3, 1e-4, 1e-5, 0.01, 2e-3, 4e-4, 8e-5, 1.6e-5, 3.2e-6, 0.01, 3e-3, 9e-4, 2.7e-4):
        wanted += [rate] * 11
    np.testing.assert_allclose(rates, wanted[:149], rtol=1e-9)
    assert schedule.restarts == 2


def test_schedule_counts_anew_after_a_new_best():
    schedule = StagnationSchedule(initial_lr=1.0, patience=2, reduce_factor=0.5, min_lr=1e-3, factor_step=0.1)
    changed = [schedule.step(improved=i in (0, 3)) for i in range(8)]
    assert changed == [False, False, False, False, False, False, True, False]


def test_the_factor_stays_below_1():
    schedule = StagnationSchedule(initial_lr=1.0, patience=0, reduce_factor=0.5, min_lr=0.9, factor_step=0.3)
    for _ in range(5):
        schedule.step(improved=False)
    assert schedule.reduce_factor == 0.9
    assert schedule.lr == 1.0


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
