"""Tag an archive of recordings: ust.commands.tag_archive says how."""

from ust.commands.console import run
from ust.commands.tag_archive import main

if __name__ == "__main__":
    run(main)
