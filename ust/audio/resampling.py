"""Resampling with the same result as resampy; for common rates it is one matrix product.

resampy evaluates an interpolated windowed sinc for every output sample. If the ratio of the rates is a small
fraction L/M (16 000/44 100 = 160/441), the weights repeat every L outputs. They are then computed once from
resampy's filter, and resampling is a product of overlapping input frames with the weight matrix.
"""

from functools import cache
from math import gcd

import numpy as np

FILTER = "kaiser_best"
# With more phases the matrix costs more than it saves; with fewer it is too narrow for a fast product.
MAX_PHASES, MIN_PHASES = 640, 128


def resample(samples: np.ndarray, orig_sr: int, target_sr: int) -> np.ndarray:
    """Resample mono samples with resampy's kaiser_best filter, as the reference VGGish does.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n,)]
    orig_sr, target_sr : int
        Sample rates of the input and of the result in Hz.

    Returns
    -------
    numpy.ndarray [shape=(n * target_sr // orig_sr,), float32 or float64]
        Equal to ``resampy.resample`` within 1e-5 of full scale.

    Examples
    --------
    >>> resample(np.zeros(44_100, np.float32), 44_100, 16_000).shape
    (16000,)
    """
    if orig_sr == target_sr:
        return samples
    divisor = gcd(orig_sr, target_sr)
    up, down = target_sr // divisor, orig_sr // divisor
    if target_sr > orig_sr or up > MAX_PHASES or down > 2 * MAX_PHASES:
        import resampy  # imported here because numba takes a quarter of a second to load

        return resampy.resample(samples, orig_sr, target_sr, filter=FILTER)
    repeat = -(-MIN_PHASES // up)
    up, down = up * repeat, down * repeat
    weights, reach = polyphase_weights(up, down)
    length = int(len(samples) * target_sr / orig_sr)
    blocks = -(-length // up)
    padded = np.zeros(blocks * down + weights.shape[1], weights.dtype)
    padded[reach : reach + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[1])[::down][:blocks]
    return (frames @ weights.T).reshape(-1)[:length].astype(samples.dtype, copy=False)


@cache
def polyphase_weights(up: int, down: int) -> tuple[np.ndarray, int]:
    """Compute the weights of a polyphase filter that turns every `down` samples into `up`, with up < down.

    Returns
    -------
    weights : numpy.ndarray [shape=(up, width), float32]
        Output ``block * up + phase`` is ``weights[phase]`` times the input from ``block * down - reach``.
    reach : int
        Number of input samples before its block that an output depends on.
    """
    from resampy.filters import get_filter

    window, precision, _ = get_filter(FILTER)
    ratio = up / down
    # Like resampy: scale the filter to the lower rate and step through its table by whole numbers.
    table = np.append(window * ratio, 0.0)
    step = int(ratio * precision)
    taps = -(-len(window) // step)
    reach = taps
    weights = np.zeros((up, down + 2 * taps + 2))
    for phase in range(up):
        time = phase * down / up
        nearest = int(time)
        fraction = ratio * (time - nearest)
        for direction, share in ((-1, fraction), (1, ratio - fraction)):
            start = share * precision
            at = int(start) + step * np.arange(taps)
            at = at[at < len(window)]
            value = table[at] + (start - int(start)) * (table[at + 1] - table[at]) * (at + 1 < len(window))
            first = nearest if direction < 0 else nearest + 1
            weights[phase, reach + first + direction * np.arange(len(at))] += value
    return weights.astype(np.float32), reach
