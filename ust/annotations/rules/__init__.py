"""Rules of label aggregation: from what annotators said of a clip to one label vector."""
