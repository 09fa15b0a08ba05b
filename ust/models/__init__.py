"""Network architectures, trained systems and their checkpoints."""
