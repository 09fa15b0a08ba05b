"""Compare systems on the same resampled clips: is one really ahead of another?"""

from ust.cli.compare import main
from ust.cli.console import run_command

if __name__ == "__main__":
    run_command(main)
