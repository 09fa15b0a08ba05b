"""From probabilities to figures: the official metrics, their error bars, tables, submissions."""
