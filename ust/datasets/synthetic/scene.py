"""Ten-second scenes: the background noise of a sensor, mixed with sounds at random levels."""

from dataclasses import dataclass

import numpy as np

from ust.audio.recordings import CLIP_SECONDS
from ust.datasets.synthetic.signals import Generator, band_noise, fade_ends, normalise_rms, to_samples
from ust.datasets.synthetic.sounds import TAXONOMY, Sound
from ust.util.seeding import random_stream

SOUNDS: dict[str, Sound] = {
    name: sound for group in TAXONOMY.values() for name, sound in group.items() if sound is not None
}
# Classes that are alone in their group are twice as frequent, so that each coarse label has positives.
DECK = [*sorted(SOUNDS), "non-machinery-impact", "dog-barking-whining"]
EVENTS_PER_CLIP = ((1, 2, 3), (0.35, 0.4, 0.25))  # numbers and their probabilities
LEVEL_DB = (0.0, 24.0)  # range of event levels over the background
NEAR_DB = 12.0  # level from which an event is near
BACKGROUND_DBFS = (-46.0, -38.0)  # range of background levels


@dataclass(frozen=True)
class Event:
    """A sound in a scene."""

    name: str  # fine label without its number
    level_db: float  # level over the background: ratio of the RMS values in dB

    @property
    def near(self) -> bool:
        """Whether the sound is near, rather than far."""
        return self.level_db >= NEAR_DB


def draw_scenes(seed: int, split: str, clips: int) -> list[list[Event]]:
    """Draw the events of each clip of a split, from shuffled decks that balance the classes."""
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
    """Mix the events of a clip with its sensor's noise [shape=(441000,), float64, within ±0.98]."""
    n = to_samples(CLIP_SECONDS)
    # Each sensor has its own spectral slope of the background noise.
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
