"""EfficientAT's MobileNets: the network, where its weights come from, and its embeddings as a feature."""
