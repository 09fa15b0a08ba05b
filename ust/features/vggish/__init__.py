"""VGGish: the network, its weights, and its quantised embeddings as a feature."""
