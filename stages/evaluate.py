"""Score any system's predictions by the official metrics of DCASE 2019 Task 5, with error bars."""

from stages import run_stage
from ust.cli.evaluate import main

if __name__ == "__main__":
    run_stage(main)
