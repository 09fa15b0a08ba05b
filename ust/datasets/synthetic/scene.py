"""Ten-second scenes: city noise at a sensor, and several sounds on top at varied levels."""

from dataclasses import dataclass

import numpy as np

from ust.audio.recordings import CLIP_SECONDS
from ust.datasets.synthetic.catalogue import TAXONOMY
from ust.datasets.synthetic.signals import Generator, band_noise, fade_ends, normalise_rms, to_samples
from ust.datasets.synthetic.sounds import Sound
from ust.util.seeding import random_stream

SOUNDS: dict[str, Sound] = {
    name: sound for group in TAXONOMY.values() for name, sound in group.items() if sound is not None
}
# Classes without sisters come up twice as often, so that no coarse label is left with hardly a positive.
DECK = [*sorted(SOUNDS), "non-machinery-impact", "dog-barking-whining"]
EVENTS_PER_CLIP = ((1, 2, 3), (0.35, 0.4, 0.25))
LEVEL_DB = (0.0, 24.0)
NEAR_DB = 12.0
BACKGROUND_DBFS = (-46.0, -38.0)


@dataclass(frozen=True)
class Event:
    """A sound in a scene.

    Attributes
    ----------
    name : str
        Fine label without its number.
    level_db : float
        RMS over that of the background.
    """

    name: str
    level_db: float

    @property
    def near(self) -> bool:
        """Whether it sounds close by."""
        return self.level_db >= NEAR_DB


def draw_scenes(seed: int, split: str, clips: int) -> list[list[Event]]:
    """Which events each clip of a split has, dealt from shuffled decks: every class comes up evenly."""
    rng = random_stream(seed, "deal", split)
    deck: list[str] = []
    scenes = []
    for _ in range(clips):
        events: dict[str, Event] = {}
        for _ in range(rng.choice(EVENTS_PER_CLIP[0], p=EVENTS_PER_CLIP[1])):
            if not deck:
                deck = [DECK[i] for i in rng.permutation(len(DECK))]
            name = deck.pop()
            events[name] = Event(name, float(rng.uniform(*LEVEL_DB)))
        scenes.append(list(events.values()))
    return scenes


def render_scene(events: list[Event], sensor: int, rng: Generator) -> np.ndarray:
    """Mix a scene.

    Returns
    -------
    numpy.ndarray [shape=(441000,), float64]
        Within ±0.98.
    """
    n = to_samples(CLIP_SECONDS)
    # A sensor's street: the slope of its noise and how much the wind or the traffic swells.
    slope = 1.0 + (sensor * 0.37) % 1.0
    background = band_noise(rng, n, 40, 12_000, slope)
    mix = background * 10 ** (rng.uniform(*BACKGROUND_DBFS) / 20)
    reference = np.sqrt(np.mean(mix**2))
    for event in events:
        length = to_samples(rng.uniform(5, CLIP_SECONDS))
        start = rng.integers(0, n - length + 1)
        sound = fade_ends(normalise_rms(SOUNDS[event.name](rng, length)), 0.1)
        mix[start : start + length] += reference * 10 ** (event.level_db / 20) * sound
    return mix / max(1.0, np.abs(mix).max() / 0.98)
