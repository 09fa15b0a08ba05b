"""Detecting speech, so that clips with audible people can be left out."""

from pathlib import Path

import numpy as np
import torch

from ust.audio.recordings import CLIP_SECONDS
from ust.features.efficientat.weights import RANDOM, load_network, network_width
from ust.features.mn_logmel import log_mel
from ust.util.errors import UserError

# AudioSet's classes of people speaking: Speech, Male speech, Female speech, Child speech, Conversation,
# Narration, Babbling, Speech synthesizer, Shout, Bellow, Whoop, Yell, Battle cry, Children shouting,
# Screaming, Whispering.
VOICES = slice(0, 16)
WINDOW_SECONDS = 5.0  # shorter than a clip, as a single word hardly raises the probability of ten seconds
MIN_SECONDS = 0.1


class SpeechFilter:
    """Rejects clips with speech, by the AudioSet classes of EfficientAT's MobileNet."""

    def __init__(self, folder: Path, weights: str, threshold: float) -> None:
        if weights == RANDOM:
            raise UserError("random weights cannot detect speech: set efficientat.weights to mn04_as")
        self.network = load_network(folder, network_width(weights)).eval()
        self.threshold = threshold

    def speech_probability(self, samples: np.ndarray, sample_rate: int) -> float:
        """Return the highest probability of speech over half-overlapping windows of a clip [shape=(n,)]."""
        length = round(WINDOW_SECONDS * sample_rate)
        starts = range(0, max(1, len(samples) - length // 2), length // 2)
        windows = [samples[start : start + length] for start in starts]
        windows = [window for window in windows if len(window) >= MIN_SECONDS * sample_rate and window.any()]
        probabilities = [0.0]
        for window in windows:
            padded = np.pad(window, (0, max(0, length - len(window))))
            mel = torch.from_numpy(log_mel(padded, sample_rate)).unsqueeze(0)
            with torch.inference_mode():
                logits = self.network.logits(self.network(mel))
            probabilities.append(float(torch.sigmoid(logits[0, VOICES]).max()))
        return max(probabilities)

    def __call__(self, samples: np.ndarray, sample_rate: int) -> str | None:
        """Return the reason to reject a clip, or None."""
        p = self.speech_probability(samples[: CLIP_SECONDS * sample_rate], sample_rate)
        return f"contains speech ({p:.2f})" if p >= self.threshold else None
