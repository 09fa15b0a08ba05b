"""A small synthetic city in the SONYC-UST v1 layout: sounds, scenes, annotators, files."""
