"""What a clip is, and what splits there are."""

CLIP_SECONDS = 10
SAMPLE_RATE = 44100  # Hz
SPLITS = ("train", "validate", "test")
