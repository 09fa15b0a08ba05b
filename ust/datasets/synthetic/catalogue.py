"""SONYC-UST's taxonomy, with a synthesised sound for each fine label.

The -X labels have no sound: annotators give them to sounds of a group whose fine label they cannot tell.
"""

from ust.datasets.synthetic.sounds import (
    Sound,
    amplified_speech,
    band,
    barking,
    car_alarm,
    car_horn,
    chainsaw,
    crowd,
    engine,
    hammer,
    ice_cream_truck,
    impact,
    mobile_music,
    reverse_beeper,
    rotating_saw,
    shouting,
    siren,
    talking,
)

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
