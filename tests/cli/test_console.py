"""The command line: refused outputs, and the messages of interrupted commands."""

import argparse
import logging
from pathlib import Path

import pytest

from ust.cli import console, program
from ust.cli.console import parse_args
from ust.util.errors import UserError


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Parse a command line with an input, an output file and an output folder."""
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser(prog="command")
    for name in ("source", "out", "folder"):
        parser.add_argument(f"--{name}", type=Path, action="append" if name == "source" else None)

    def parse(*argv):
        return parse_args(parser, writes=["out"], replaces=["folder"], argv=argv)

    return parse


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--source", "a", "--source", "b", "--out", "./b"], "b: is given as out and as source"),
        (["--out", "a", "--folder", "x/../a"], "should be two different paths"),
        (["--source", "a/b/c", "--folder", "a"], "a: folder would be replaced, but source lies in it"),
    ],
)
def test_output_that_is_or_contains_an_input_is_refused(parse, argv, message):
    with pytest.raises(UserError) as refused:
        parse(*argv)
    assert message in str(refused.value)


def test_output_beside_its_input_and_output_in_an_output_folder_are_accepted(parse):
    args = parse("--source", "a/b", "--out", "folder/file", "--folder", "folder")
    assert args.out == Path("folder/file")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["tag", "street.wav"], ""),
        (["import", "city", "recordings"], ""),
        (["export", "out"], ""),
        (["train", "city"], "; run the same command to continue: the features of finished clips are kept"),
        (["tag-archive", "in", "out"], "; run the same command to continue: finished shards are kept"),
    ],
)
def test_interrupted_command_names_only_what_it_keeps(words, hint, monkeypatch, caplog):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["ust", *words])
    monkeypatch.setattr(program, "dispatch", interrupt)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(console.log, "propagate", True)
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 130
    assert caplog.messages == [f"interrupted{hint}"]
