"""Somebody's own clips: from labels as people have them to clips in the layout of SONYC-UST."""
