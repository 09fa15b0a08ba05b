"""Augmentation of the report, section 3.1: pitch shift, volume change, background noise."""

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

# A pitch shift stretches the clip by 2^(semitones/12), then resamples it. Beyond four octaves the stretched
# clip soon becomes shorter than the window of the Fourier transform, or too large for the memory.
MAX_SEMITONES = 48.0
MAX_GAIN_DB = 120.0  # the dynamic range of 24 bits, less the level of a quiet clip


def _check_levels(levels: list[float]) -> list[float]:
    if max(map(abs, levels)) > MAX_GAIN_DB:
        raise ValueError(f"Input should be within -{MAX_GAIN_DB:g} and {MAX_GAIN_DB:g} dB")
    return levels


class Variant(Section):
    """Parameters of every kind of variant.

    Attributes
    ----------
    enabled : bool
    proportion : float
        Fraction of the clips that get a variant, in [0, 1].
    copies : int
        Number of variants per clip.
    """

    enabled: bool
    proportion: Share
    copies: Count


class PitchShift(Variant):
    """Parameters of `pitch_shift`."""

    semitones: Annotated[float, Field(gt=0, le=MAX_SEMITONES)]


class Volume(Variant):
    """Parameters of `volume`."""

    gain_db: Annotated[float, Field(gt=0, le=MAX_GAIN_DB)]


class Noise(Variant):
    """Parameters of `noise`; levels are in dB relative to the clip's RMS."""

    colours: Annotated[list[Literal["white", "pink", "brown"]], Field(min_length=1)]
    level_db: Annotated[Interval, AfterValidator(_check_levels)]


class Augment(Section):
    """The section ``augment`` of params.yaml."""

    seed: Seed
    pitch_shift: PitchShift
    volume: Volume
    noise: Noise


# Exponent p of noise whose power spectral density is proportional to f^-p.
SPECTRAL_SLOPE = {"white": 0.0, "pink": 1.0, "brown": 2.0}


def pitch_shift(
    samples: np.ndarray, sample_rate: int, *, semitones: float, rng: np.random.Generator
) -> np.ndarray:
    """Shift the pitch by a random number of semitones, uniform in ±`semitones`; the length stays the same."""
    steps = rng.uniform(-semitones, semitones)
    shifted = librosa.effects.pitch_shift(samples, sr=sample_rate, n_steps=steps)
    return np.clip(shifted, -1, 1)


def volume(samples: np.ndarray, sample_rate: int, *, gain_db: float, rng: np.random.Generator) -> np.ndarray:
    """Change the volume by a random gain, uniform in ±`gain_db`, limited so that no peak is clipped.

    Clipping would change the sound. Without it the log-mel spectrogram, which is relative to its maximum,
    stays the same.
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
    """Add noise of a random colour, at a random level in `level_db` (dB) relative to the clip's RMS."""
    colour = colours[rng.integers(len(colours))]
    level = 10 ** (rng.uniform(*level_db) / 20)
    rms = np.sqrt(np.mean(samples.astype(np.float64) ** 2))
    return np.clip(samples + level * rms * coloured_noise(len(samples), colour, rng), -1, 1)


def coloured_noise(n: int, colour: str, rng: np.random.Generator) -> np.ndarray:
    """Generate noise of unit RMS with a power spectral density of f⁰ (white), f⁻¹ (pink) or f⁻² (brown).

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
    """Return the names of a method's variants.

    Examples
    --------
    >>> variant_names("noise", 3)
    ['noise', 'noise_2', 'noise_3']
    """
    return [method] + [f"{method}_{number}" for number in range(2, copies + 1)]


@dataclass(frozen=True)
class PlannedVariant:
    """A variant of a clip to generate.

    Attributes
    ----------
    clip : str
        audio_filename of the clip.
    method : str
        A key of `METHODS`.
    variant : str
        Name of the variant and of its random stream.
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
    """Return the variants to generate for a list of clips."""
    planned = []
    for method, values in settings.model_dump(exclude={"seed"}).items():
        enabled, proportion, copies = (values.pop(key) for key in ("enabled", "proportion", "copies"))
        for variant in variant_names(method, copies) if enabled else []:
            planned += [
                PlannedVariant(clip, method, variant, values, settings.seed)
                for clip in clips
                if is_selected(clip, variant=variant, proportion=proportion, seed=settings.seed)
            ]
    return planned


def write_variant(source: Path, folder: Path, planned: PlannedVariant) -> None:
    """Write one variant of a clip as ``<audio_filename>.flac``."""
    options = {"method": planned.method, "variant": planned.variant, "settings": planned.settings}
    samples = load_audio(source, SAMPLE_RATE)
    out = augment(samples, SAMPLE_RATE, **options, clip=planned.clip, seed=planned.seed)
    write_sound(folder / f"{planned.clip}.flac", out, SAMPLE_RATE, format="FLAC", subtype="PCM_24")


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
    """Generate one variant of a clip.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,)]
        Mono; full scale is ±1.
    sample_rate : int
        Hz.
    method : str
        A key of `METHODS`.
    variant, clip : str
        Name the random stream, together with `seed`.
    settings : mapping
        Keyword arguments of the method.
    seed : int

    Returns
    -------
    numpy.ndarray [shape=(n,)]

    Examples
    --------
    >>> tone = np.sin(np.arange(44_100) / 20)
    >>> options = {"method": "volume", "variant": "volume", "settings": {"gain_db": 6}}
    >>> augment(tone, 44_100, **options, clip="01_000000.wav", seed=0).shape
    (44100,)
    """
    rng = random_stream(seed, "augment", variant, clip)
    return METHODS[method](samples, sample_rate, **settings, rng=rng)


def is_selected(clip: str, *, variant: str, proportion: float, seed: int) -> bool:
    """Return whether a clip is in the random fraction `proportion` of clips that get the variant."""
    return random_stream(seed, "choose", variant, clip).random() < proportion
