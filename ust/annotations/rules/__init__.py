"""Label aggregation rules: from the annotations of a clip to one label vector."""
