"""Tag an archive of recordings; see `ust.cli.tag_archive`."""

from ust.cli.console import run_command
from ust.cli.program import KEPT
from ust.cli.tag_archive import main

if __name__ == "__main__":
    run_command(main, kept=KEPT["tag-archive"])
