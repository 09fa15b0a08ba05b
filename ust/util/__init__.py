"""How PyTorch computes here: the device, equal bits from equal inputs, and faster layers beside its own."""
