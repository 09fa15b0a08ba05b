"""Training heads on embeddings of pretrained networks."""
