"""What a clip is."""

CLIP_SECONDS = 10
SAMPLE_RATE = 44100  # Hz
