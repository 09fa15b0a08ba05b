"""Training a network epoch by epoch: the step, the rate, when to stop, what is gone on from."""
