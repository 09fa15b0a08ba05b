"""From recordings to tags: a trained system in use, as text, and as one file for other programs."""
