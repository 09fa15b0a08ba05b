"""EfficientAT's MobileNets: the network, its pretrained weights, and its embeddings as features."""
