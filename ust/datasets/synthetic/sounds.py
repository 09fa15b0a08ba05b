"""A recognisable sound for every fine label of SONYC-UST, built by signal processing.

Each `Sound` takes a random generator and a length, and returns that many samples. Calls differ, but pitch,
rate, envelope and timbre stay within the range of the class.
"""

from collections.abc import Callable

import numpy as np

from ust.datasets.synthetic.signals import (
    SAMPLE_RATE,
    Generator,
    add_at_times,
    band_noise,
    beat_times,
    exponential_decay,
    fade_ends,
    harmonic_amplitudes,
    harmonic_tone,
    normalise_rms,
    random_curve,
    time_axis,
    to_samples,
)

Sound = Callable[[Generator, int], np.ndarray]


def engine(lowest: float, highest: float, partials: int, rumble: float, lope: float) -> Sound:
    """A combustion engine: firing rate in Hz, brightness, share of broadband noise, unevenness."""

    def make(rng: Generator, n: int) -> np.ndarray:
        rate = rng.uniform(lowest, highest) * (1 + 0.04 * random_curve(rng, n, 0.7))
        firing = harmonic_tone(rate, n, harmonic_amplitudes(partials, 0.8))
        uneven = 1 + lope * np.sin(2 * np.pi * np.cumsum(rate / 4) / SAMPLE_RATE)
        exhaust = band_noise(rng, n, lowest, 40 * lowest, slope=1) * (
            1 + np.sin(2 * np.pi * np.cumsum(rate) / SAMPLE_RATE)
        )
        return normalise_rms(firing) * uneven + rumble * normalise_rms(exhaust)

    return make


def hammer(rate: tuple[float, float], ring: tuple[float, float], thump: float, length: float) -> Sound:
    """A striking machine: blows per second, ring frequencies (Hz), level of the thump, ring seconds."""

    def make(rng: Generator, n: int) -> np.ndarray:
        times = beat_times(rng, n, rng.uniform(*rate), 0.04)
        m = to_samples(6 * length)
        partials = rng.uniform(*ring, size=4)
        metal = sum(np.sin(2 * np.pi * f * time_axis(m)) for f in partials) * exponential_decay(m, length)
        low = np.sin(2 * np.pi * rng.uniform(50, 110) * time_axis(m)) * exponential_decay(m, 2 * length)
        crack = band_noise(rng, m, ring[0] / 2, 2 * ring[1]) * exponential_decay(m, length / 3)
        blow = 0.5 * metal + 1.2 * crack + thump * 2 * low
        strength = rng.uniform(0.7, 1.0, len(times))
        return add_at_times(n, times, lambda i: blow * strength[i])

    return make


def impact(rng: Generator, n: int) -> np.ndarray:
    """A few irregular impacts, such as objects that fall or doors that slam."""
    times = np.sort(rng.uniform(0, 0.9 * n / SAMPLE_RATE, rng.integers(2, 6)))

    def bang(_: int) -> np.ndarray:
        m = to_samples(0.5)
        body = np.sin(2 * np.pi * rng.uniform(150, 900) * time_axis(m)) * exponential_decay(
            m, rng.uniform(0.03, 0.1)
        )
        return rng.uniform(0.5, 1) * (
            body + 1.5 * band_noise(rng, m, 100, 6000) * exponential_decay(m, rng.uniform(0.01, 0.05))
        )

    return add_at_times(n, times, bang)


def chainsaw(rng: Generator, n: int) -> np.ndarray:
    """A two-stroke engine that revs up and down."""
    rev = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time_axis(n) + rng.uniform(0, 6))
    rate = rng.uniform(90, 120) * (0.7 + 0.8 * rev)
    rasp = band_noise(rng, n, 1500, 9000) * (0.3 + rev)
    return normalise_rms(harmonic_tone(rate, n, harmonic_amplitudes(40, 0.5))) + 0.5 * normalise_rms(rasp)


def rotating_saw(lowest: float, highest: float, grit: float) -> Sound:
    """A spinning blade: its whine (Hz) sags under load; `grit` is the share of broadband cutting noise."""

    def make(rng: Generator, n: int) -> np.ndarray:
        load = np.clip(random_curve(rng, n, 0.8), 0, 1)
        spin_up = 1 - 0.7 * exponential_decay(n, 0.25)
        pitch = rng.uniform(lowest, highest) * spin_up * (1 - 0.15 * load)
        cutting = band_noise(rng, n, 2000, 14_000) * (0.3 + load)
        return normalise_rms(harmonic_tone(pitch, n, (1.0, 0.6, 0.35, 0.2))) + grit * normalise_rms(cutting)

    return make


def car_horn(rng: Generator, n: int) -> np.ndarray:
    """One to four honks of two reedy tones a third apart."""
    base = rng.uniform(340, 430)
    times = np.sort(rng.uniform(0, 0.8 * n / SAMPLE_RATE, rng.integers(1, 5)))

    def honk(_: int) -> np.ndarray:
        m = to_samples(rng.uniform(0.25, 1.2))
        return fade_ends(
            harmonic_tone(base, m, harmonic_amplitudes(16, 0.6))
            + harmonic_tone(1.26 * base, m, harmonic_amplitudes(16, 0.6))
        )

    return add_at_times(n, times, honk)


def car_alarm(rng: Generator, n: int) -> np.ndarray:
    """A cycle of three patterns: fast sweeps, two alternating tones, chirps."""
    t = time_axis(n)
    sweep = 800 + 700 * ((t * 3) % 1)
    two_tone = np.where((t * 4) % 1 < 0.5, 1200.0, 850.0)
    chirp = 2000 - 1200 * ((t * 8) % 1)
    pattern = (((t + rng.uniform(0, 6)) / 1.6) % 3).astype(int)
    return harmonic_tone(
        rng.uniform(0.9, 1.1) * np.choose(pattern, [sweep, two_tone, chirp]), n, (1, 0, 0.4, 0, 0.2)
    )


def siren(rng: Generator, n: int) -> np.ndarray:
    """An emergency vehicle: a slow wail or a fast yelp that glides over more than an octave."""
    period = rng.choice([rng.uniform(3, 5), rng.uniform(0.3, 0.5)], p=[0.7, 0.3])
    glide = 0.5 - 0.5 * np.cos(2 * np.pi * time_axis(n) / period + rng.uniform(0, 6))
    return harmonic_tone(rng.uniform(550, 700) * 2 ** (1.2 * glide), n, (1, 0.5, 0.3, 0.15))


def reverse_beeper(rng: Generator, n: int) -> np.ndarray:
    """A steady pure beep, half a second on, half a second off."""
    period = rng.uniform(0.8, 1.2)
    gate = np.clip(40 * np.sin(2 * np.pi * time_axis(n) / period), 0, 1)
    return gate * harmonic_tone(rng.uniform(1000, 1400), n, (1, 0.1, 0.1))


def melody(
    rng: Generator, n: int, *, scale: tuple[int, ...], root: float, note: float, bell: bool
) -> np.ndarray:
    """A random melody of plucked or bell-like notes over a scale (semitones above `root` Hz)."""
    times = np.arange(0, n / SAMPLE_RATE, note)
    steps = np.clip(np.cumsum(rng.integers(-2, 3, len(times))) + 3, 0, len(scale) - 1)
    amplitudes = (1, 0, 0.5, 0, 0.25) if bell else harmonic_amplitudes(8, 1.2)

    def pluck(i: int) -> np.ndarray:
        m = to_samples(min(4 * note, 1.5))
        return harmonic_tone(root * 2 ** (scale[steps[i]] / 12), m, amplitudes) * exponential_decay(
            m, 1.2 * note
        )

    return add_at_times(n, times, pluck)


def band(rng: Generator, n: int) -> np.ndarray:
    """Popular music: drums on the beat, a bass line, a melody."""
    beat = 60 / rng.uniform(90, 130)
    scale = (0, 3, 5, 7, 10, 12, 15, 17)
    root = rng.uniform(180, 260)
    m = to_samples(0.25)
    kick = np.sin(2 * np.pi * (45 + 90 * exponential_decay(m, 0.03)) * time_axis(m)) * exponential_decay(
        m, 0.09
    )
    hat = band_noise(rng, m, 6000, 15_000) * exponential_decay(m, 0.03)
    seconds = n / SAMPLE_RATE
    drums = 3 * add_at_times(n, np.arange(0, seconds, beat), lambda _: kick)
    drums += 0.5 * add_at_times(n, np.arange(beat / 2, seconds, beat / 2), lambda _: hat)
    bass = melody(rng, n, scale=scale[:4], root=root / 4, note=beat, bell=False)
    lead = melody(rng, n, scale=scale, root=root * 2, note=beat / 2, bell=False)
    return drums + 1.5 * bass + lead


def mobile_music(rng: Generator, n: int) -> np.ndarray:
    """Music from a passing car: bass-heavy, swelling and fading, its pitch falling as it passes."""
    source = band(rng, n)
    passing = np.linspace(-1, 1, n) / rng.uniform(0.25, 0.5)
    bent = np.interp(np.cumsum(1 - 0.03 * np.tanh(passing)), np.arange(n), source)
    spectrum = np.fft.rfft(bent)
    spectrum /= 1 + (np.fft.rfftfreq(n, 1 / SAMPLE_RATE) / 400) ** 2
    return np.fft.irfft(spectrum, n) / (0.15 + passing**2)


def ice_cream_truck(rng: Generator, n: int) -> np.ndarray:
    """A music box: a major-key jingle of high bells."""
    scale = (0, 2, 4, 5, 7, 9, 11, 12)
    return melody(rng, n, scale=scale, root=rng.uniform(900, 1200), note=rng.uniform(0.16, 0.24), bell=True)


def voice(
    rng: Generator, n: int, *, pitch: tuple[float, float], rate: float, pauses: float, bright: float
) -> np.ndarray:
    """A talker: a glottal tone through changing formants, in syllables and pauses.

    Parameters: pitch range (Hz), syllables per second, share of silence, tilt of the glottal partials.
    """
    base = rng.uniform(*pitch)
    out = np.zeros(n)
    at = 0
    while at < n:
        m = min(to_samples(rng.uniform(0.7, 1.4) / rate), n - at)
        if rng.random() >= pauses and m > 400:
            glide = base * (1 + 0.15 * rng.standard_normal() + np.linspace(0.08, -0.08, m))
            formants = (rng.uniform(300, 850), rng.uniform(900, 2300), rng.uniform(2300, 3200))
            mean = float(glide.mean())
            partials = np.arange(1, max(2, int(5000 / mean)) + 1)
            gains = sum(
                g / (1 + ((partials * mean - f) / 120) ** 2)
                for f, g in zip(formants, (1, 0.6, 0.3), strict=True)
            )
            syllable = harmonic_tone(glide, m, (gains + 0.02) * partials ** (bright - 1.0))
            breath = 0.3 * band_noise(rng, m, 2500, 8000) * (rng.random() < 0.3)
            out[at : at + m] += np.hanning(m) * (normalise_rms(syllable) + breath)
        at += m
    return out


def talking(rng: Generator, n: int) -> np.ndarray:
    """One or two people in conversation."""
    voices = rng.integers(1, 3)
    return sum(voice(rng, n, pitch=(95, 220), rate=4.5, pauses=0.3, bright=0.3) for _ in range(voices))


def shouting(rng: Generator, n: int) -> np.ndarray:
    """A raised voice: high, bright, long syllables with gaps."""
    return np.tanh(2 * voice(rng, n, pitch=(260, 420), rate=1.6, pauses=0.5, bright=1.0))


def crowd(rng: Generator, n: int) -> np.ndarray:
    """Ten voices, and noise for the murmur of many more."""
    voices = sum(voice(rng, n, pitch=(90, 300), rate=4, pauses=0.2, bright=0.4) for _ in range(10))
    return normalise_rms(voices) + 0.8 * band_noise(rng, n, 250, 2500, slope=0.5)


def amplified_speech(rng: Generator, n: int) -> np.ndarray:
    """A voice through a loudspeaker: narrow band, distorted, echoing."""
    dry = np.tanh(4 * voice(rng, n, pitch=(100, 200), rate=3.5, pauses=0.2, bright=0.6))
    spectrum = np.fft.rfft(dry)
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    spectrum *= (frequency > 450) & (frequency < 3200)
    out = np.fft.irfft(spectrum, n)
    for delay, gain in ((0.13, 0.5), (0.29, 0.35), (0.47, 0.2)):
        shift = to_samples(delay)
        if shift < n:
            out[shift:] += gain * out[: n - shift]
    return out


def barking(rng: Generator, n: int) -> np.ndarray:
    """Short rough barks in groups, their pitch falling."""
    groups = rng.uniform(0, 0.8 * n / SAMPLE_RATE, rng.integers(2, 4))
    times = np.concatenate(
        [start + np.arange(rng.integers(2, 5)) * rng.uniform(0.28, 0.45) for start in groups]
    )
    pitch = rng.uniform(350, 700)

    def bark(_: int) -> np.ndarray:
        m = to_samples(rng.uniform(0.12, 0.2))
        glide = pitch * np.linspace(1.25, 0.75, m)
        rough = 1 + 0.6 * np.sin(2 * np.pi * 70 * time_axis(m))
        return np.hanning(m) * (
            normalise_rms(harmonic_tone(glide, m, harmonic_amplitudes(12, 0.5)) * rough)
            + 0.5 * band_noise(rng, m, 500, 4000)
        )

    return add_at_times(n, times, bark)


# SONYC-UST's taxonomy, with the sound of each fine label. The -X labels have no sound: annotators give them
# to sounds of a group whose fine label they cannot tell.
TAXONOMY: dict[str, dict[str, Sound | None]] = {
    "engine": {
        "small-sounding-engine": engine(120, 190, 30, 0.2, 0.0),
        "medium-sounding-engine": engine(45, 75, 24, 0.5, 0.15),
        "large-sounding-engine": engine(17, 28, 40, 0.9, 0.4),
        "engine-of-uncertain-size": None,
    },
    "machinery-impact": {
        "rock-drill": hammer((32, 45), (1800, 4500), 0.1, 0.008),
        "jackhammer": hammer((14, 21), (700, 2000), 0.5, 0.018),
        "hoe-ram": hammer((5, 8.5), (300, 900), 1.0, 0.05),
        "pile-driver": hammer((0.7, 1.3), (180, 700), 2.0, 0.16),
        "other-unknown-impact-machinery": None,
    },
    "non-machinery-impact": {"non-machinery-impact": impact},
    "powered-saw": {
        "chainsaw": chainsaw,
        "small-medium-rotating-saw": rotating_saw(2200, 3600, 0.5),
        "large-rotating-saw": rotating_saw(500, 900, 1.2),
        "other-unknown-powered-saw": None,
    },
    "alert-signal": {
        "car-horn": car_horn,
        "car-alarm": car_alarm,
        "siren": siren,
        "reverse-beeper": reverse_beeper,
        "other-unknown-alert-signal": None,
    },
    "music": {
        "stationary-music": band,
        "mobile-music": mobile_music,
        "ice-cream-truck": ice_cream_truck,
        "music-from-uncertain-source": None,
    },
    "human-voice": {
        "person-or-small-group-talking": talking,
        "person-or-small-group-shouting": shouting,
        "large-crowd": crowd,
        "amplified-speech": amplified_speech,
        "other-unknown-human-voice": None,
    },
    "dog": {"dog-barking-whining": barking},
}
