"""Building blocks of synthetic sounds: tones, noise, pulses and envelopes, as float64 arrays."""

from collections.abc import Callable, Sequence

import numpy as np

SAMPLE_RATE = 44_100
Generator = np.random.Generator


def time_axis(n: int) -> np.ndarray:
    """Return the time of each of n samples in seconds."""
    return np.arange(n) / SAMPLE_RATE


def harmonic_tone(frequency: np.ndarray | float, n: int, amplitudes: Sequence[float] = (1.0,)) -> np.ndarray:
    """Synthesise a harmonic tone; `frequency` (Hz) may vary over time; partials above 16 kHz are omitted."""
    track = np.broadcast_to(np.asarray(frequency, float), (n,))
    phase = 2 * np.pi * np.cumsum(track) / SAMPLE_RATE
    # sin(kx) = 2 cos(x) sin((k-1)x) - sin((k-2)x) gives all partials from one sine and one cosine.
    before, current, twice_cosine = np.zeros(n), np.sin(phase), 2 * np.cos(phase)
    out = np.zeros(n)
    for k, amplitude in enumerate(amplitudes, start=1):
        if k * track.max() >= 16_000:
            break
        out += amplitude * current
        before, current = current, twice_cosine * current - before
    return out


def harmonic_amplitudes(partials: int, power: float) -> list[float]:
    """Return amplitudes of partials k = 1, 2, … that are proportional to k to the -`power`."""
    return [k**-power for k in range(1, partials + 1)]


def band_noise(rng: Generator, n: int, low: float, high: float, slope: float = 0.0) -> np.ndarray:
    """Generate noise of unit RMS between two frequencies (Hz), with a power proportional to f^-`slope`."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    edge = 1 / (1 + (low / np.maximum(frequency, 1e-3)) ** 6) / (1 + (frequency / high) ** 6)
    return normalise_rms(np.fft.irfft(spectrum * edge * np.maximum(frequency, 20) ** (-slope / 2), n))


def random_curve(rng: Generator, n: int, rate: float) -> np.ndarray:
    """Generate a slow random curve of unit standard deviation, interpolated from `rate` points per second."""
    points = max(4, int(n / SAMPLE_RATE * rate) + 3)
    return np.interp(np.linspace(0, points - 1, n), np.arange(points), rng.standard_normal(points))


def exponential_decay(n: int, seconds: float) -> np.ndarray:
    """Return an exponential decay that falls to 1/e in `seconds`."""
    return np.exp(-time_axis(n) / seconds)


def fade_ends(signal: np.ndarray, seconds: float = 0.02) -> np.ndarray:
    """Fade the signal in and out, which avoids clicks."""
    n = min(len(signal) // 2, int(seconds * SAMPLE_RATE))
    ramp = np.sin(np.linspace(0, np.pi / 2, n)) ** 2
    out = signal.copy()
    out[:n] *= ramp
    out[len(out) - n :] *= ramp[::-1]
    return out


def add_at_times(n: int, times: Sequence[float], make: Callable[[int], np.ndarray]) -> np.ndarray:
    """Add the signal `make(i)` at the i-th time (seconds) to n samples of silence."""
    out = np.zeros(n)
    for i, start in enumerate(int(t * SAMPLE_RATE) for t in times):
        if 0 <= start < n:
            piece = make(i)[: n - start]
            out[start : start + len(piece)] += piece
    return out


def beat_times(rng: Generator, n: int, rate: float, jitter: float) -> np.ndarray:
    """Return times (seconds) of beats at `rate` per second, with a random shift of `jitter` periods."""
    times = np.arange(0, n / SAMPLE_RATE, 1 / rate)
    return np.maximum(0, times + rng.normal(0, jitter / rate, len(times)))


def to_samples(seconds: float) -> int:
    """Convert seconds to a number of samples."""
    return max(2, int(seconds * SAMPLE_RATE))


def normalise_rms(signal: np.ndarray) -> np.ndarray:
    """Scale a signal to unit RMS."""
    return signal / (np.sqrt(np.mean(signal**2)) + 1e-12)
