"""What brings a data set: a folder, SONYC-UST from Zenodo, a synthetic city."""
