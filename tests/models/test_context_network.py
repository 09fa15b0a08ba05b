"""Networks with time and place: what they add, what they ignore, and how they are saved."""

from dataclasses import asdict
from datetime import datetime

import numpy as np
import pytest
import torch

from ust.features.context import SIZE, VALUES, Place, context_vector
from ust.models.checkpoints import SavedNetwork, build_initialized, load_system, save_network
from ust.models.context import REFERENCES, ContextConfig, ContextNetwork
from ust.models.examples import TensorExamples
from ust.models.head import Head
from ust.models.systems import EnsembleSystem
from ust.training.trainer import fit_classifier

SHAPES = {"embedding": (6,), "context": (SIZE,)}
NOON = datetime(2026, 7, 4, 12)
KNOWN = ("latitude", "longitude")


def vectors(*contexts):
    return torch.from_numpy(np.stack([context_vector(*context) for context in contexts]))


def initialized(outputs=37, **settings):
    return build_initialized("head", Head.Config(), outputs, SHAPES, 1, "a", ContextConfig(**settings))


@pytest.fixture
def network():
    """A network whose last layer of time and place is not 0."""
    network = initialized()
    torch.nn.init.normal_(network.context.layers[-1].weight)
    torch.nn.init.normal_(network.context.layers[-1].bias)
    return network.eval()


def test_without_time_and_place_it_is_the_network_of_the_audio(network):
    embedding = torch.rand(3, 6)
    contexts = vectors((), (NOON,), (None, Place(40.7, -73.9)))
    found, alone = network(context=contexts, embedding=embedding), network.audio(embedding)
    assert torch.equal(found[0], alone[0])
    assert not torch.isclose(found[1:], alone[1:]).all(dim=1).any()


def test_training_starts_from_the_network_of_the_audio_alone():
    network, alone = initialized().eval(), build_initialized("head", Head.Config(), 37, SHAPES, 1, "a")
    embedding = torch.rand(2, 6)
    assert torch.equal(network(context=vectors((NOON,), ()), embedding=embedding), alone(embedding))


def test_coordinates_are_standardised_by_the_known_ones():
    network = ContextNetwork(ContextConfig(), 2)
    places = [(40.6, -74.0), (40.7, -73.9), (40.8, -73.8)]
    network.fit(vectors(*((NOON, Place(*place, 1)) for place in places), (NOON,)))
    columns = [VALUES.index(name) for name in KNOWN]
    np.testing.assert_allclose(network.mean[columns], np.mean(places, axis=0), rtol=1e-6)
    np.testing.assert_allclose(network.scale[columns], 1 / np.std(places, axis=0), rtol=1e-3)


def test_the_mean_over_train_examples_is_zero(network):
    """So that a label is as frequent with as without time and place."""
    rng = np.random.default_rng(0)
    times = [datetime(2026, 7, 4, int(hour)) for hour in rng.integers(24, size=REFERENCES)]
    contexts = vectors(*((time, Place(*rng.uniform(-1, 1, 2), 1)) for time in times))
    network.context.fit(contexts)
    logits = network.context(contexts)
    assert logits.std() > 0.1
    np.testing.assert_allclose(logits.mean(dim=0).detach(), 0, atol=1e-5)


def test_places_that_no_train_clip_has_change_nothing(network):
    """A borough without a sensor, or coordinates if all sensors are at one place or none is known."""
    of_train = [(NOON, Place(40.7, -73.9, 1)), (NOON, Place(40.7, -73.9, 1))]
    network.context.fit(vectors(*of_train))
    seen, elsewhere = vectors((NOON, Place(40.7, -73.9)), (NOON, Place(45.0, -70.0, 4)))
    found = network.context(torch.stack([seen, elsewhere]))
    assert torch.equal(found[0], found[1])
    network.context.fit(vectors((NOON,)))
    assert not network.context(vectors((None, Place(40.7, -73.9, 1)))).any()


@pytest.mark.whole
def test_a_share_of_the_training_examples_loses_its_context(network):
    torch.manual_seed(0)
    network.context.train()
    contributions = network.context(vectors(*[(NOON,)] * 2000))
    assert (contributions == 0).all(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_noise_moves_known_coordinates_alone():
    torch.manual_seed(0)
    network = ContextNetwork(ContextConfig(dropout=0.0, place_noise=0.5), 2)
    given = []
    network.layers[0].register_forward_pre_hook(lambda _, args: given.append(args[0]))
    contexts = vectors((NOON, Place(1.0, -1.0, 3)), (NOON,)).repeat(500, 1)
    network.train()(contexts)
    network.eval()(contexts)
    in_training, _, in_evaluation, _ = given  # the second input of each pass are the references
    moved = in_training - in_evaluation
    columns = [VALUES.index(name) for name in KNOWN]
    others = [index for index in range(SIZE) if index not in columns]
    assert not moved[:, others].any()
    assert not moved[1::2].any()
    assert 0.45 < moved[::2, columns].abs().max() <= 0.5


def save(folder, network, taxonomy):
    metadata = {
        "taxonomy": asdict(taxonomy),
        "inputs": {"embedding": "mn", "context": "context"},
        "features": {},
    }
    labels = list(taxonomy.labels)
    saved = SavedNetwork(network, "head", Head.Config(), labels, metadata, SHAPES, ContextConfig(dropout=0.3))
    save_network(folder, saved)


def test_a_checkpoint_and_an_ensemble_take_the_context(network, taxonomy, tmp_path):
    save(tmp_path, network, taxonomy)
    system = load_system(tmp_path)
    inputs = {"embedding": torch.rand(2, 6), "context": vectors((NOON, Place(40.7, -73.9, 1)), ())}
    wanted = torch.sigmoid(network(**inputs))
    assert torch.equal(system(**inputs), wanted)
    shares = {"coarse": [0.5, 0.5], "fine": [0.5, 0.5]}
    ensemble = EnsembleSystem([system, load_system(tmp_path)], taxonomy, {}, shares=shares)
    torch.testing.assert_close(ensemble(mn=inputs["embedding"], context=inputs["context"]), wanted)


def city(rng, sensors, hours, count):
    """Clips whose first label follows the hour, and whose second one is a habit of its sensor."""
    sensor, hour = rng.choice(sensors, count), rng.choice(hours, count)
    places = np.random.default_rng(5).uniform((40.6, -74.0), (40.8, -73.8), (40, 2))
    habits = np.random.default_rng(6).random(40) < 0.5
    contexts = vectors(
        *((datetime(2026, 7, 4, h), Place(*places[s])) for s, h in zip(sensor, hour, strict=True))
    )
    targets = np.stack([(hour >= 7) & (hour < 18), habits[sensor]], axis=1).astype(np.float32)
    embedding = torch.from_numpy(rng.standard_normal((count, 6)).astype(np.float32))
    return TensorExamples({"embedding": embedding, "context": contexts}, torch.from_numpy(targets))


def change_by_shuffling(network, examples, columns):
    """Return the mean absolute change of the probabilities if some values are shuffled among the clips."""
    context = examples.inputs["context"].clone()
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(context)))
    context[:, columns] = context[order][:, columns]
    with torch.no_grad():
        before, after = (
            torch.sigmoid(network(**inputs))
            for inputs in (examples.inputs, examples.inputs | {"context": context})
        )
    return (before - after).abs().mean().item()


@pytest.fixture(scope="module")
def trained():
    """Networks trained with and without noise of the place, and clips of sensors that are not in train."""
    rng = np.random.default_rng(0)
    train = city(rng, np.arange(8, 20), np.arange(24), 300)
    networks = {}
    for noise in (0.0, 1.0):
        network = initialized(outputs=2, place_noise=noise)
        network.context.fit(train.inputs["context"])
        fit_classifier(network, train, name="a", seed=1, lr=0.01, weight_decay=0.0, batch_size=32,
                       max_epochs=60)  # fmt: skip
        networks[noise] = network.eval()
    return networks, city(rng, np.arange(8), np.arange(24), 200)


TIME = [index for index, name in enumerate(VALUES) if name.endswith(("_sin", "_cos"))]
PLACE = [index for index in range(SIZE) if index not in TIME]


def test_place_matters_less_than_time_and_less_with_noise(trained):
    """So that a place is not the identity of its sensor."""
    networks, validate = trained
    times, places = (change_by_shuffling(networks[1.0], validate, part) for part in (TIME, PLACE))
    exact = change_by_shuffling(networks[0.0], validate, PLACE)
    assert places < 0.75 * min(times, exact)


def test_the_hour_is_learned_from_the_context(trained):
    networks, validate = trained
    truth = validate.targets[:, 0] > 0.5
    with torch.no_grad():
        with_context, without = (
            ((networks[1.0](**validate.inputs | change)[:, 0] > 0) == truth).float().mean()
            for change in ({}, {"context": torch.zeros_like(validate.inputs["context"])})
        )
    assert with_context > 0.9
    assert without < 0.7
