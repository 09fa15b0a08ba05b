"""Where shards of work are done: processes of this machine, or workers of a Dask cluster."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from ust.util.digests import source_digest
from ust.util.errors import UserError

T = TypeVar("T")
AHEAD = 2  # shards a worker is given before it asks
PATIENCE = "20s"  # for a scheduler to answer
log = logging.getLogger("ust")


def run_shards(
    function: Callable[[int], T], shards: list[int], *, scheduler: str | None = None
) -> Iterator[T]:
    """Yield what a function makes of each shard, as they get done.

    Parameters
    ----------
    function : callable
        Can be pickled; each call writes its own files, so that a shard that is done stays done.
    shards : list of int
    scheduler : str, optional
        None: a process for each core of this machine. Or Dask: ``local:N`` for N workers of this machine,
        ``tcp://host:8786`` for a cluster that runs, ``slurm`` for one that SLURM starts, by the
        configuration of dask-jobqueue.

    Raises
    ------
    UserError
        If the scheduler cannot be reached or is lost, its workers are of other versions, or a worker dies
        again and again. What was finished stays.
    """
    if not shards:
        return
    if scheduler is None:
        yield from _in_processes(function, shards)
    else:
        yield from _on_dask(function, shards, scheduler)


def _in_processes(function: Callable[[int], T], shards: list[int]) -> Iterator[T]:
    from joblib import Parallel, cpu_count, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    jobs = max(1, min(cpu_count(), len(shards)))
    with (
        parallel_config(backend="loky", inner_max_num_threads=1),
        Parallel(
            n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=AHEAD * jobs
        ) as pool,
    ):
        try:
            yield from pool(delayed(function)(shard) for shard in shards)
        except TerminatedWorkerError:
            raise UserError(
                "a process was killed, perhaps for want of memory; the same command does what is left"
            ) from None


def _on_dask(function: Callable[[int], T], shards: list[int], scheduler: str) -> Iterator[T]:
    try:
        from dask import config
        from distributed import Client, as_completed
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError:
        raise UserError("a scheduler of Dask needs its packages: pip install dask distributed") from None

    for name in ("distributed", "distributed.client"):  # it prints tracebacks of what is reported here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(config.set({"distributed.comm.timeouts.connect": PATIENCE}))
        try:
            client = stack.enter_context(Client(_cluster(scheduler, stack), timeout=PATIENCE))
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f"compute.scheduler {scheduler}: cannot be reached: {error}") from None
        _check_workers(client, scheduler)
        left = iter(shards)
        ahead = AHEAD * max(1, sum(client.nthreads().values()))
        waiting = as_completed(raise_errors=False)

        def give() -> None:
            # A bounded number is out: neither scheduler nor client ever holds a million tasks.
            shard = next(left, None)
            if shard is not None:
                waiting.add(client.submit(function, shard, pure=False, retries=2))

        for _ in range(min(ahead, len(shards))):
            give()
        try:
            done = 0
            for future in waiting:
                if future.status == "lost" or future.cancelled():
                    raise _lost(scheduler)
                result = _result(future, KilledWorker)
                future.release()
                done += 1
                give()
                yield result
            if done < len(shards):
                raise _lost(scheduler)
        except CommClosedError:
            raise _lost(scheduler) from None
        except BaseException:
            with suppress(Exception):
                client.cancel(list(waiting.futures))
            raise


def _lost(scheduler: str) -> UserError:
    return UserError(
        f"compute.scheduler {scheduler}: the scheduler is gone; the same command does what is left"
    )


def _result(future: Any, killed: type[Exception]) -> Any:
    try:
        return future.result()
    except killed as error:
        raise UserError(
            f"a worker died again and again on the same shard, perhaps for want of memory ({error.task}); "
            "the same command does what is left"
        ) from None


def _cluster(scheduler: str, stack: ExitStack) -> Any:
    """An address, or a cluster that ends with the stack."""
    kind, _, count = scheduler.partition(":")
    if kind == "local" and count.isdigit() and int(count):
        from distributed import LocalCluster

        return stack.enter_context(
            LocalCluster(n_workers=int(count), threads_per_worker=1, dashboard_address=None, memory_limit=0)
        )
    if scheduler == "slurm":
        try:
            from dask_jobqueue import SLURMCluster
        except ModuleNotFoundError:
            raise UserError("compute.scheduler slurm needs a package: pip install dask-jobqueue") from None
        cluster = stack.enter_context(SLURMCluster())
        cluster.adapt()
        return cluster
    return scheduler


def _check_workers(client: Any, scheduler: str) -> None:
    """Check that there are workers, and that they have the packages and the code that are here."""
    if not scheduler.startswith(("local:", "slurm")) and not client.scheduler_info()["workers"]:
        log.warning("compute.scheduler %s: has no workers yet; waiting for one", scheduler)
    client.wait_for_workers(1)
    try:
        client.get_versions(check=True)
    except ValueError as error:
        text = " ".join(str(error).split())
        raise UserError(f"compute.scheduler {scheduler}: other versions there: {text}") from None
    here = source_digest()
    others = [worker for worker, found in client.run(source_digest).items() if found != here]
    if others:
        raise UserError(
            f"compute.scheduler {scheduler}: {len(others)} worker(s) have other code ({others[0]}); start "
            "them from this version of the project"
        )
