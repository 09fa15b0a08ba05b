"""Augmentation of section 3.1 of the report: pitch shift, volume change, background noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import librosa
import numpy as np
from pydantic import AfterValidator, Field

from ust.audio.recordings import SAMPLE_RATE, load_audio, write_sound
from ust.util.config import Count, Interval, Section, Seed, Share
from ust.util.seeding import random_stream

# A shift stretches the clip by 2^(semitones/12), then resamples it. Four octaves leave 0.6 of its ten
# seconds; far beyond, the stretched clip is shorter than a Fourier transform's window, or fills the memory.
MAX_SEMITONES = 48.0
MAX_GAIN_DB = 120.0  # what 24 bits hold, less the level of a quiet clip


def _within(levels: list[float]) -> list[float]:
    if max(map(abs, levels)) > MAX_GAIN_DB:
        raise ValueError(f"Input should be within -{MAX_GAIN_DB:g} and {MAX_GAIN_DB:g} dB")
    return levels


class Variant(Section):
    """What every kind of variant has."""

    enabled: bool
    proportion: Share
    copies: Count


class PitchShift(Variant):
    semitones: Annotated[float, Field(gt=0, le=MAX_SEMITONES)]


class Volume(Variant):
    gain_db: Annotated[float, Field(gt=0, le=MAX_GAIN_DB)]


class Noise(Variant):
    colours: Annotated[list[Literal["white", "pink", "brown"]], Field(min_length=1)]
    level_db: Annotated[Interval, AfterValidator(_within)]


class Augment(Section):
    """The section ``augment`` of params.yaml."""

    seed: Seed
    pitch_shift: PitchShift
    volume: Volume
    noise: Noise


# The power of white, pink and brown noise falls with frequency to these powers.
SPECTRAL_SLOPE = {"white": 0.0, "pink": 1.0, "brown": 2.0}


def pitch_shift(
    samples: np.ndarray, sample_rate: int, *, semitones: float, rng: np.random.Generator
) -> np.ndarray:
    """Shift the pitch by a number of semitones drawn from ±`semitones`, keeping the length."""
    steps = rng.uniform(-semitones, semitones)
    shifted = librosa.effects.pitch_shift(samples, sr=sample_rate, n_steps=steps)
    return np.clip(shifted, -1, 1)


def volume(samples: np.ndarray, sample_rate: int, *, gain_db: float, rng: np.random.Generator) -> np.ndarray:
    """Change the volume by a gain drawn from ±`gain_db`, but never so far that a peak would clip.

    A clipped clip would be another sound; unclipped, its log-mel, relative to its own maximum, is unchanged.
    """
    gain = 10 ** (rng.uniform(-gain_db, gain_db) / 20)
    return samples * min(gain, 1 / max(np.abs(samples).max(), 1e-9))


def noise(
    samples: np.ndarray,
    sample_rate: int,
    *,
    colours: list[str],
    level_db: list[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Add noise of a colour drawn from `colours`, its RMS relative to the clip's drawn from `level_db`."""
    colour = colours[rng.integers(len(colours))]
    level = 10 ** (rng.uniform(*level_db) / 20)
    rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
    return np.clip(samples + level * rms * coloured_noise(len(samples), colour, rng), -1, 1)


def coloured_noise(n: int, colour: str, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit RMS whose power spectral density falls as f⁰ (white), f⁻¹ (pink) or f⁻² (brown).

    Returns
    -------
    numpy.ndarray [shape=(n,), float64]
    """
    spectrum = np.fft.rfft(rng.standard_normal(n))
    bins = np.arange(len(spectrum), dtype=float)
    spectrum[1:] *= bins[1:] ** (-SPECTRAL_SLOPE[colour] / 2)
    spectrum[0] = 0
    out = np.fft.irfft(spectrum, n)
    return out / np.sqrt(np.mean(out**2))


METHODS = {"pitch_shift": pitch_shift, "volume": volume, "noise": noise}


def variant_names(method: str, copies: int) -> list[str]:
    """The variants that so many draws of a method give.

    Examples
    --------
    >>> names("noise", 3)
    ['noise', 'noise_2', 'noise_3']
    """
    return [method] + [f"{method}_{number}" for number in range(2, copies + 1)]


@dataclass(frozen=True)
class PlannedVariant:
    """A variant of a clip that is to be made.

    Attributes
    ----------
    clip : str
    method : str
        Of `METHODS`.
    variant : str
        Its name, and that of its draws.
    settings : dict
        Keyword arguments of the method.
    seed : int
    """

    clip: str
    method: str
    variant: str
    settings: Mapping[str, Any]
    seed: int


def plan_variants(clips: Sequence[str], settings: Augment) -> list[PlannedVariant]:
    """The variants of clips that the parameters ask for."""
    found = []
    for method, values in settings.model_dump(exclude={"seed"}).items():
        enabled, proportion, copies = (values.pop(key) for key in ("enabled", "proportion", "copies"))
        for variant in variant_names(method, copies) if enabled else []:
            found += [
                PlannedVariant(clip, method, variant, values, settings.seed)
                for clip in clips
                if is_selected(clip, variant=variant, proportion=proportion, seed=settings.seed)
            ]
    return found


def write_variant(source: Path, folder: Path, wanted: PlannedVariant) -> None:
    """Write one variant of a clip as ``<audio_filename>.flac``."""
    options = {"method": wanted.method, "variant": wanted.variant, "settings": wanted.settings}
    samples = load_audio(source, SAMPLE_RATE)
    out = augment(samples, SAMPLE_RATE, **options, clip=wanted.clip, seed=wanted.seed)
    write_sound(folder / f"{wanted.clip}.flac", out, SAMPLE_RATE, format="FLAC", subtype="PCM_24")


def augment(
    samples: np.ndarray,
    sample_rate: int,
    *,
    method: str,
    variant: str,
    settings: Mapping,
    clip: str,
    seed: int,
) -> np.ndarray:
    """One variant of a clip; `settings` are the keyword arguments of the method's function in `METHODS`."""
    rng = random_stream(seed, "augment", variant, clip)
    return METHODS[method](samples, sample_rate, **settings, rng=rng)


def is_selected(clip: str, *, variant: str, proportion: float, seed: int) -> bool:
    """Whether this clip is among the `proportion` of clips that get the variant."""
    return random_stream(seed, "choose", variant, clip).random() < proportion
