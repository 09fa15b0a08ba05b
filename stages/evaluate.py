"""Evaluate predictions by the official metrics of DCASE 2019 Task 5, with confidence intervals."""

from stages import run_stage
from ust.cli.evaluate import main

if __name__ == "__main__":
    run_stage(main)
