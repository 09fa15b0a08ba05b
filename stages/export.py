"""Export a trained system, front end included, as ONNX with a model card, and check it against PyTorch."""

from ust.commands.console import run
from ust.commands.export import main

if __name__ == "__main__":
    run(main)
