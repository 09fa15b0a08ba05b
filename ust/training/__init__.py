"""Training of each kind of system: flat networks, hierarchies of networks, and the challenge's baseline."""
