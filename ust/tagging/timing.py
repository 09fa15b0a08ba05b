"""How long a system takes for a clip."""

import time
from pathlib import Path
from statistics import median

from ust.audio.recordings import read_recording
from ust.tagging.tagger import Tagger

WARM_UP = 2  # clips that are not counted


def milliseconds_a_clip(tagger: Tagger, recordings: list[Path]) -> float:
    """The median over recordings from waveform to tags, one by one, without the reading of the file."""
    spent = []
    for path in [*recordings[:WARM_UP], *recordings]:
        recording = read_recording(path)
        started = time.perf_counter()
        tagger.predict(recording.samples, recording.sample_rate)
        spent.append(time.perf_counter() - started)
    return 1000 * median(spent[WARM_UP:])
