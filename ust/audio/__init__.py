"""Samples: reading and writing clips, resampling, augmentation."""
