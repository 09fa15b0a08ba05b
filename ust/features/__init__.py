"""From samples to stored arrays: the features, their extraction, and the files that hold them."""
