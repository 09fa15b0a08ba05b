"""Audio: reading and writing sound files, resampling and augmentation."""
