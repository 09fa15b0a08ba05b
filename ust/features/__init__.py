"""Features: definitions, extraction from audio, and the HDF5 files that store them."""
