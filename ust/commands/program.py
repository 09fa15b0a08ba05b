"""The program `ust`: one command for each thing that people do without the pipeline."""

import sys
from importlib import import_module

from ust.commands.console import run
from ust.files.errors import UserError

COMMANDS = {
    "tag": "tag recordings with a trained system",
    "listen": "tag live sound",
    "tag-archive": "tag thousands of recordings, or millions, to Parquet",
    "query": "ask a tagged archive: what, when, where",
    "evaluate": "score predictions by the official metrics",
    "compare": "is one system really ahead of another?",
    "export": "a trained system as one ONNX file",
}


def usage() -> str:
    """What the program takes."""
    lines = [f"  {name:<13}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: ust COMMAND …, and ust COMMAND --help for what it takes", *lines])


def dispatch() -> None:
    """Run the command that is named."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    import_module(f"ust.commands.{name.replace('-', '_')}").main(f"ust {name}", words)


def main() -> None:
    """The entry point."""
    run(dispatch)
