"""Score any system's predictions by the official metrics of DCASE 2019 Task 5, with error bars."""

from ust.commands.console import run
from ust.commands.evaluate import main

if __name__ == "__main__":
    run(main)
