"""Nothing of sound: atomic writing, readers, digests, seeds, settings, errors."""
