"""VGGish: its network, where its weights come from, and its quantised embeddings as a feature."""
