"""The program `ust`: the commands that work without the pipeline."""

import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ust.cli.console import run_command
from ust.util.errors import UserError

# The module in ust.cli and the line of help for each command.
COMMANDS = {
    "init": ("init", "create a project for a tagger of your own classes"),
    "import": ("import_", "import labelled recordings into the project"),
    "train": ("train", "train the tagger and report its performance"),
    "review": ("review", "label the most informative clips in the browser"),
    "tag": ("tag", "tag recordings with a trained system"),
    "listen": ("listen", "tag live sound"),
    "tag-archive": ("tag_archive", "tag thousands or millions of recordings, to Parquet"),
    "query": ("query", "query a tagged archive by label, time and sensor"),
    "evaluate": ("evaluate", "score predictions with the official metrics"),
    "compare": ("compare", "test whether one system is better than another"),
    "export": ("export", "export a trained system as ONNX or as a folder"),
}
# What the commands that can be continued keep of an interrupted run.
KEPT = {
    "train": "the features of finished clips are kept",
    "tag-archive": "finished shards are kept",
}


def usage() -> str:
    """Return the help text of the program."""
    lines = [f"  {name:<13}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["usage: ust COMMAND …; ust COMMAND --help lists the options of a command; ust --version", *lines]
    )


def package_version() -> str:
    """Return the version of the installed package, or that of pyproject.toml beside the source."""
    try:
        return version("urban-sound-tagging")
    except PackageNotFoundError:
        text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8")
        return str(tomllib.loads(text)["project"]["version"])


def dispatch() -> None:
    """Run the command named on the command line."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name == "--version":
        sys.stdout.write(f"ust {package_version()}\n")
        return
    if name in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return
    if name not in COMMANDS:
        raise UserError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    module, _ = COMMANDS[name]
    import_module(f"ust.cli.{module}").main(f"ust {name}", argv)


def main() -> None:
    """Run the program (entry point of the package)."""
    run_command(dispatch, kept=KEPT.get("".join(sys.argv[1:2])))
