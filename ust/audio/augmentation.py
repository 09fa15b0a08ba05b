"""Augmentation of train clips.

Pitch shift, volume change and background noise are the report's (section 3.1). `sensor` simulates the
microphone of a sensor far above the street.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import librosa
import numpy as np
from pydantic import AfterValidator, Field, model_validator
from scipy.signal import butter, fftconvolve, sosfilt

from ust.audio.recordings import SAMPLE_RATE, load_audio, write_sound
from ust.util.config import Fraction, Interval, PositiveFloat, PositiveInt, Section, Seed
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
    """Parameters of every kind of variant."""

    enabled: bool = False
    """Whether to write such variants of the train clips."""
    proportion: Fraction = 1.0
    """Fraction of the train clips that get a variant."""
    copies: PositiveInt = 1
    """Number of variants per clip, with separate random draws."""


class PitchShift(Variant):
    """Parameters of `pitch_shift`."""

    semitones: Annotated[float, Field(gt=0, le=MAX_SEMITONES)] = 2.0
    """The shift is drawn between minus and plus this."""


class Volume(Variant):
    """Parameters of `volume`."""

    gain_db: Annotated[float, Field(gt=0, le=MAX_GAIN_DB)] = 10.0
    """The gain is drawn between minus and plus this."""


class Noise(Variant):
    """Parameters of `noise`; levels are in dB relative to the clip's RMS."""

    colours: Annotated[list[Literal["white", "pink", "brown"]], Field(min_length=1)] = Field(
        ["white", "pink", "brown"]
    )
    """Noise colours to choose from."""
    level_db: Annotated[Interval, AfterValidator(_check_levels)] = Field([-20.0, -10.0])
    """Range of the noise level, relative to the clip's RMS."""


def _check_positive(interval: list[float]) -> list[float]:
    if interval[0] <= 0:
        raise ValueError("Input should be greater than 0")
    return interval


Positives = Annotated[Interval, AfterValidator(_check_positive)]


class Sensor(Variant):
    """Parameters of `sensor`, in Hz, seconds and dB."""

    low_cut: PositiveFloat = 120.0
    """Lower cutoff frequency of the sensor, in Hz."""
    high_cut: Positives = Field([3000.0, 8000.0])
    """Range of its upper cutoff frequency, in Hz."""
    reverberation: Positives = Field([0.2, 0.8])
    """Range of the reverberation time, in seconds."""
    snr_db: Annotated[Interval, AfterValidator(_check_levels)] = Field([0.0, 12.0])
    """Range of the level of the clip above pink or traffic noise."""
    gain_db: Annotated[Interval, AfterValidator(_check_levels)] = Field([-40.0, 0.0])
    """Range of the gain."""

    @model_validator(mode="after")
    def _check_band(self) -> Self:
        highest = HIGHEST_CUT * SAMPLE_RATE
        if self.low_cut >= min(self.high_cut[0], highest):
            raise ValueError(f"low_cut should be below high_cut and below {highest:g} Hz")
        return self


class Augment(Section):
    """The section ``augment`` of params.yaml."""

    seed: Seed = 2019
    """Seed of all draws."""
    pitch_shift: PitchShift
    volume: Volume
    noise: Noise
    sensor: Sensor


# Exponent p of noise whose power spectral density is proportional to f^-p.
SPECTRAL_SLOPE = {"white": 0.0, "pink": 1.0, "brown": 2.0}
FILTER_ORDER = 4
HIGHEST_CUT = 0.49  # highest upper cutoff frequency, as a share of the sample rate
LOWEST_TRAFFIC = 50.0  # Hz
PASSING_DB, PASSING_S = 6.0, 2.0  # deviation and time scale of the level of traffic noise


def pitch_shift(
    samples: np.ndarray, sample_rate: int, *, semitones: float, rng: np.random.Generator
) -> np.ndarray:
    """Shift the pitch by a random number of semitones, uniform in ±`semitones`; the length stays the same."""
    steps = rng.uniform(-semitones, semitones)
    shifted = librosa.effects.pitch_shift(samples, sr=sample_rate, n_steps=steps)
    return np.clip(shifted, -1, 1)


def change_volume(
    samples: np.ndarray, sample_rate: int, *, gain_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Change the volume by a random gain, uniform in ±`gain_db`, limited so that no peak is clipped.

    A log-mel spectrogram relative to its maximum does not change with the gain: this variant affects other
    features only.
    """
    gain = 10 ** (rng.uniform(-gain_db, gain_db) / 20)
    return samples * min(gain, 1 / max(np.abs(samples).max(), 1e-9))


def add_noise(
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
    """Generate noise of unit RMS with a power spectral density of f⁰ (white), f⁻¹ (pink) or f⁻² (brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    bins = np.arange(len(spectrum), dtype=float)
    spectrum[1:] *= bins[1:] ** (-SPECTRAL_SLOPE[colour] / 2)
    spectrum[0] = 0
    out = np.fft.irfft(spectrum, n)
    return out / np.sqrt(np.mean(out**2))


def simulate_sensor(
    samples: np.ndarray,
    sample_rate: int,
    *,
    low_cut: float,
    high_cut: list[float],
    reverberation: list[float],
    snr_db: list[float],
    gain_db: list[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Simulate a distant sensor: reverberation, noise of the street, a narrow band, a low level.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,)]
        Mono; full scale is ±1.
    sample_rate : int
        Hz.
    low_cut : float
        Lower edge of the microphone's band in Hz.
    high_cut : list of float
        Lowest and highest upper edge of the band in Hz; drawn uniformly on a logarithmic scale.
    reverberation : list of float
        Shortest and longest reverberation time in seconds; see `impulse_response`.
    snr_db : list of float
        Lowest and highest ratio of clip to noise in dB. The noise is `pink_noise` or `traffic_noise` and
        is added before the band-pass.
    gain_db : list of float
        Lowest and highest gain in dB, limited so that no peak is clipped.

    Returns
    -------
    numpy.ndarray [shape=(n,)]
    """
    distant = fftconvolve(samples, impulse_response(rng.uniform(*reverberation), sample_rate, rng))
    distant = distant[: len(samples)]
    background = (pink_noise, traffic_noise)[rng.integers(2)](len(samples), sample_rate, rng)
    level = _rms(distant) * 10 ** (-rng.uniform(*snr_db) / 20)
    upper = min(np.exp(rng.uniform(*np.log(high_cut))), HIGHEST_CUT * sample_rate)
    bandpass = butter(FILTER_ORDER, [low_cut, upper], "bandpass", fs=sample_rate, output="sos")
    mixed = sosfilt(bandpass, distant + level * background)
    gain = 10 ** (rng.uniform(*gain_db) / 20)
    return mixed * min(gain, 1 / max(np.abs(mixed).max(), 1e-9))


def impulse_response(seconds: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Generate an impulse response of unit energy with a reverberation time of `seconds`.

    One half of the energy is direct sound, the other half is white noise that decays by 60 dB in this time.
    """
    n = max(2, round(seconds * sample_rate))
    response = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    response[0] = np.sqrt(np.sum(response[1:] ** 2))
    return response / np.sqrt(np.sum(response**2))


def pink_noise(n: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Generate pink noise of unit RMS."""
    return coloured_noise(n, "pink", rng)


def traffic_noise(n: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Generate brown noise above 50 Hz, of unit RMS, whose level changes within seconds as vehicles pass."""
    points = rng.normal(0, PASSING_DB, 2 + int(n / sample_rate / PASSING_S))
    level_db = np.interp(np.arange(n) / sample_rate / PASSING_S, np.arange(len(points)), points)
    highpass = butter(2, LOWEST_TRAFFIC, "highpass", fs=sample_rate, output="sos")
    out = sosfilt(highpass, coloured_noise(n, "brown", rng)) * 10 ** (level_db / 20)
    return out / _rms(out)


def _rms(samples: np.ndarray) -> float:
    """Return the root mean square, at least 1e-9."""
    return max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), 1e-9)


METHODS = {"pitch_shift": pitch_shift, "volume": change_volume, "noise": add_noise, "sensor": simulate_sensor}


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
    """A variant of a clip to generate."""

    clip: str  # audio_filename of the clip
    method: str  # a key of `METHODS`
    variant: str  # name of the variant and of its random stream
    settings: Mapping[str, Any]  # keyword arguments of the method
    seed: int  # seed of the random streams


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
    out = augment(load_audio(source, SAMPLE_RATE), SAMPLE_RATE, planned)
    write_sound(folder / f"{planned.clip}.flac", out, SAMPLE_RATE, format="FLAC", subtype="PCM_24")


def augment(samples: np.ndarray, sample_rate: int, planned: PlannedVariant) -> np.ndarray:
    """Generate one variant of a clip [shape=(n,)]."""
    rng = random_stream(planned.seed, "augment", planned.variant, planned.clip)
    return METHODS[planned.method](samples, sample_rate, **planned.settings, rng=rng)


def is_selected(clip: str, *, variant: str, proportion: float, seed: int) -> bool:
    """Return whether a clip is in the random fraction `proportion` of clips that get the variant."""
    return random_stream(seed, "choose", variant, clip).random() < proportion
