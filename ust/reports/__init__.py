"""Figures, tables and HTML pages from metrics, predictions and clips."""
