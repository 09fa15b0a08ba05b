"""Run the commands of the project in the test process, without starting Python for each."""

import contextlib
import io
import logging
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from unittest import mock

import torch
from joblib.externals.loky import reusable_executor

from ust.cli import program
from ust.cli.console import log, run_command

# joblib keeps its worker processes, which stay in the folder where they were started.
_workers = (None, None)


def run_stage(
    name: str, words: Sequence, folder: Path, environment: Mapping[str, str] = os.environ
) -> tuple[int, str, str]:
    """Run ``python -m stages.NAME WORDS`` in a folder; return exit code, standard output and error."""
    main = import_module(f"stages.{name}").main
    argv = [str(word) for word in words]
    return _run(lambda: run_command(lambda: main(argv=argv)), folder, environment)


def run_ust(
    words: Sequence, folder: Path, environment: Mapping[str, str] = os.environ, *, stdin: bytes = b""
) -> tuple[int, str, str]:
    """Run ``ust WORDS`` in a folder; return exit code, standard output and error."""
    with mock.patch("sys.argv", ["ust", *map(str, words)]):
        return _run(program.main, folder, environment, stdin)


def run_dvc(
    words: Sequence[str], folder: Path, environment: Mapping[str, str] = os.environ
) -> tuple[int, str, str]:
    """Run ``dvc WORDS`` and the stages that it starts; return exit code, standard output and error."""
    from dvc import cli
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    def run_stage_command(executable, command, *, cwd, env, **_):
        python, option, module, *words = shlex.split(command)
        assert (python, option) == ("python", "-m")
        code, out, err = run_stage(module.removeprefix("stages."), words, cwd, env)
        sys.stdout.write(out)
        sys.stderr.write(err)
        if code:
            raise StageCmdFailedError(command, code)

    def main():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pygtrie, which DVC uses
        for handler in logging.getLogger("dvc").handlers:  # bound to the streams at the time of the import
            handler.setStream(sys.stderr if handler.level >= logging.WARNING else sys.stdout)
        sys.exit(cli.main(list(words)))

    with mock.patch.object(run, "_run", run_stage_command):
        return _run(main, folder, environment)


def run_python(
    source: str, folder: Path, environment: Mapping[str, str] = os.environ
) -> tuple[int, str, str]:
    """Run a program as ``python -c`` does; return exit code, standard output and error."""
    code = compile(source, "<program>", "exec")
    return _run(lambda: exec(code, {"__name__": "__main__"}), folder, environment)


def stop_workers() -> None:
    """Stop the worker processes that joblib keeps."""
    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True, kill_workers=True)


def _run(
    command: Callable[[], None], folder: Path, environment: Mapping[str, str], stdin: bytes = b""
) -> tuple[int, str, str]:
    """Call a command and restore the process state that it changes."""
    global _workers
    if _workers != (reusable_executor._executor, folder):
        stop_workers()
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        _restored(),
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, dict(environment), clear=True),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            command()
            code = 0
        except SystemExit as end:
            code = end.code or 0
            if isinstance(code, str):  # as Python does with a message
                sys.stderr.write(f"{code}\n")
                code = 1
        except Exception:
            traceback.print_exc()
            code = 1
    _workers = (reusable_executor._executor, folder)
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


@contextlib.contextmanager
def _restored():
    """Restore logging, warnings, the random generator and the settings of PyTorch."""
    root = logging.getLogger()
    loggers = [root, log, *map(logging.getLogger, ("numba", "h5py", "absl", "matplotlib"))]
    levels, handlers = [each.level for each in loggers], root.handlers[:]
    root.handlers.clear()  # basicConfig(force=True) would close them
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    deterministic = torch.get_deterministic_debug_mode()
    filled, benchmark = (
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
    )
    try:
        with warnings.catch_warnings():
            yield
    finally:
        root.handlers[:] = handlers
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
        torch.set_rng_state(generator)
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = benchmark
