"""The program `ust`: one command for each thing that people do without the pipeline."""

import sys
from importlib import import_module

from ust.cli.console import run_command
from ust.util.errors import UserError

# By name: the module in ust.cli, and what it is for.
COMMANDS = {
    "init": ("own.init", "begin a tagger of your own sounds"),
    "import": ("own.import_", "bring labelled recordings into it"),
    "train": ("own.train", "train it, and see how good it is"),
    "review": ("own.review", "listen to what teaches it most, on a page of your browser"),
    "tag": ("tag", "tag recordings with a trained system"),
    "listen": ("listen", "tag live sound"),
    "tag-archive": ("tag_archive", "tag thousands of recordings, or millions, to Parquet"),
    "query": ("query", "ask a tagged archive: what, when, where"),
    "evaluate": ("evaluate", "score predictions by the official metrics"),
    "compare": ("compare", "is one system really ahead of another?"),
    "export": ("export", "a trained system to pass on, as ONNX or as a folder"),
}


def usage() -> str:
    """What the program takes."""
    lines = [f"  {name:<13}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: ust COMMAND …, and ust COMMAND --help for what it takes", *lines])


def dispatch() -> None:
    """Run the command that is named."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    module, _ = COMMANDS[name]
    import_module(f"ust.cli.{module}").main(f"ust {name}", words)


def main() -> None:
    """The entry point."""
    run_command(dispatch)
