"""Run a script and inject a fault at a given change of its files, independent of time.

    python tests/fault_injection.py ACTION NUMBER PART MODULE ARGUMENTS...

A change is that Python opens a file for writing, or makes, renames or removes one, if its path contains PART.
Before change NUMBER, the action "kill" kills the process group, and "remove" removes the folder of the file.
The action "count" only counts, for `inject_fault` in the test process.
"""

import os
import runpy
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@contextmanager
def inject_fault(action, number, part):
    """Count file changes and perform the action at the given one; the length of the list is the count."""
    seen, ended = [], []

    def hook(event, args):
        if ended:
            return
        changes = event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITING)
        if changes:
            paths = [os.fspath(path) for path in args[:2] if isinstance(path, str | bytes | os.PathLike)]
            touched = [os.fsdecode(path) for path in paths if part in os.fsdecode(path)]
            seen.extend(touched[-1:])
            if touched and len(seen) == number:
                if action == "kill":
                    os.killpg(0, signal.SIGKILL)
                if action == "remove":
                    ended.append(True)
                    shutil.rmtree(Path(touched[-1]).parent, ignore_errors=True)

    sys.addaudithook(hook)  # which cannot be removed
    try:
        yield seen
    finally:
        ended.append(True)


if __name__ == "__main__":
    action, number, part, module = sys.argv[1:5]
    sys.argv = [module, *sys.argv[5:]]
    with inject_fault(action, int(number), part):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
