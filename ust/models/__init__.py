"""From arrays to probabilities: networks, the systems made of them, and how both are saved."""
