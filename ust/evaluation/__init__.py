"""Evaluation of predictions: official metrics, confidence intervals, calibration, and submissions."""
