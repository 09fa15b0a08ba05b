"""Whether people can be heard in a clip, so that it is not kept."""

from pathlib import Path

import numpy as np
import torch

from ust.audio.recordings import CLIP_SECONDS
from ust.features.efficientat.network import log_mel
from ust.features.efficientat.weights import RANDOM, load_network, network_width
from ust.util.errors import UserError

# AudioSet's classes of people speaking: Speech, Male speech, Female speech, Child speech, Conversation,
# Narration, Babbling, Speech synthesizer, Shout, Bellow, Whoop, Yell, Battle cry, Children shouting,
# Screaming, Whispering.
VOICES = slice(0, 16)
PART = 5.0  # seconds that are heard at a time: a word in ten seconds is soon drowned
SHORTEST = 0.1


class SpeechFilter:
    """Hears voices in clips, by AudioSet's MobileNet.

    Parameters
    ----------
    folder : Path
        Of the feature mn's weights.
    weights : str
        Which they are.
    threshold : float
        Probability of any of `VOICES` from which on a clip is not kept.

    Raises
    ------
    UserError
        If the weights are random.
    """

    def __init__(self, folder: Path, weights: str, threshold: float) -> None:
        if weights == RANDOM:
            raise UserError("voices are not heard with random weights: set mn.weights to mn04_as")
        self.network = load_network(folder, network_width(weights)).eval()
        self.threshold = threshold

    def probability(self, samples: np.ndarray, sample_rate: int) -> float:
        """That somebody speaks, in the likeliest part of a clip [shape=(n,)]."""
        length = round(PART * sample_rate)
        starts = range(0, max(1, len(samples) - length // 2), length // 2)
        parts = [samples[start : start + length] for start in starts]
        parts = [part for part in parts if len(part) >= SHORTEST * sample_rate and part.any()]
        found = [0.0]
        for part in parts:
            padded = np.pad(part, (0, max(0, length - len(part))))
            with torch.inference_mode():
                logits = self.network.logits(
                    self.network(torch.from_numpy(log_mel(padded, sample_rate))[None])
                )
            found.append(float(torch.sigmoid(logits[0, VOICES]).max()))
        return max(found)

    def __call__(self, samples: np.ndarray, sample_rate: int) -> str | None:
        """Why a clip is not to be kept, or None."""
        p = self.probability(samples[: CLIP_SECONDS * sample_rate], sample_rate)
        return f"somebody speaks in it ({p:.2f})" if p >= self.threshold else None
