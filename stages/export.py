"""Export a trained system, front end included, as ONNX with a model card, and check it against PyTorch."""

from ust.cli.console import run_command
from ust.cli.export import main

if __name__ == "__main__":
    run_command(main)
