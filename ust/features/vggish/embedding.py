"""Post-processing of VGGish embeddings to 8 bits, as AudioSet released them, and dequantisation."""

import numpy as np
import torch

EMBEDDING = 128
QUANTISE_RANGE = (-2.0, 2.0)


def postprocess(embeddings: np.ndarray, pca_eigen_vectors: np.ndarray, pca_means: np.ndarray) -> np.ndarray:
    """Apply the PCA, clip to [-2, 2] and quantise to 8 bits by truncation, as AudioSet's released embeddings.

    Parameters
    ----------
    embeddings : numpy.ndarray [shape=(n, 128)]
    pca_eigen_vectors : numpy.ndarray [shape=(128, 128)]
    pca_means : numpy.ndarray [shape=(128,) or (128, 1)]

    Returns
    -------
    numpy.ndarray [shape=(n, 128), uint8]
    """
    low, high = QUANTISE_RANGE
    whitened = (embeddings - pca_means.reshape(1, -1)) @ pca_eigen_vectors.T
    return ((np.clip(whitened, low, high) - low) * (255.0 / (high - low))).astype(np.uint8)


def dequantise(embeddings: torch.Tensor) -> torch.Tensor:
    """Map quantised embeddings (0 to 255) back to the range of the whitened ones, -2 to 2."""
    low, high = QUANTISE_RANGE
    return embeddings.float() * ((high - low) / 255.0) + low
