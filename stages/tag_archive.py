"""Tag an archive of recordings: ust.cli.tag_archive says how."""

from ust.cli.console import run_command
from ust.cli.tag_archive import main

if __name__ == "__main__":
    run_command(main)
