"""Outputs that would overwrite inputs are refused before a command starts."""

import argparse
from pathlib import Path

import pytest

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
