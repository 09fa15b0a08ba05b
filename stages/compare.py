"""Compare systems on the same resampled clips: is one really ahead of another?"""

from ust.commands.compare import main
from ust.commands.console import run

if __name__ == "__main__":
    run(main)
