"""Data sources: SONYC-UST releases, local folders, imported labels and the synthetic city."""
