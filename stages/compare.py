"""Compare systems by a paired bootstrap over clips or sensors."""

from ust.cli.compare import main
from ust.cli.console import run_command

if __name__ == "__main__":
    run_command(main)
