"""Tag recordings of any length, rate and number of channels with a trained system."""

from ust.commands.console import run
from ust.commands.tag import main

if __name__ == "__main__":
    run(main)
