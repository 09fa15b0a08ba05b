"""Tag recordings of any length, rate and number of channels with a trained system."""

from ust.cli.console import run_command
from ust.cli.tag import main

if __name__ == "__main__":
    run_command(main)
