"""Run a function over shards: in processes of this machine, or on the workers of a Dask cluster."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from ust.util.digests import source_digest
from ust.util.errors import UserError, single_line

T = TypeVar("T")
SHARDS_PER_WORKER = 2  # shards submitted per worker: one runs while the next one waits
CONNECT_TIMEOUT = "20s"  # for the connection to the scheduler
log = logging.getLogger("ust")


def run_shards(
    function: Callable[[int], T], shards: list[int], *, scheduler: str | None = None
) -> Iterator[T]:
    """Call a function with each shard, in parallel, and yield the results in order of completion."""
    if not shards:
        return
    if scheduler is None:
        yield from _in_processes(function, shards)
    else:
        yield from _on_dask(function, shards, scheduler)


def _in_processes(function: Callable[[int], T], shards: list[int]) -> Iterator[T]:
    """Run shards in processes of this machine, each with one thread."""
    from joblib import Parallel, cpu_count, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    processes = max(1, min(cpu_count(), len(shards)))
    with (
        parallel_config(backend="loky", inner_max_num_threads=1),
        Parallel(
            n_jobs=processes,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch=SHARDS_PER_WORKER * processes,
        ) as pool,
    ):
        try:
            yield from pool(delayed(function)(shard) for shard in shards)
        except TerminatedWorkerError:
            raise UserError(
                "a process was killed, perhaps because memory ran out; run the same command again to resume"
            ) from None


def _on_dask(function: Callable[[int], T], shards: list[int], scheduler: str) -> Iterator[T]:
    """Run shards on the workers of a Dask cluster."""
    try:
        from dask import config
        from distributed import Client, as_completed
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError:
        raise UserError("a Dask scheduler needs more packages: pip install dask distributed") from None

    # These loggers would print tracebacks of errors that are reported here.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(config.set({"distributed.comm.timeouts.connect": CONNECT_TIMEOUT}))
        try:
            client = stack.enter_context(Client(_cluster(scheduler, stack), timeout=CONNECT_TIMEOUT))
        except (OSError, ValueError, TimeoutError) as error:
            raise UserError(f"compute.scheduler {scheduler}: cannot be reached: {error}") from None
        _check_workers(client, scheduler)
        remaining = iter(shards)
        limit = SHARDS_PER_WORKER * max(1, sum(client.nthreads().values()))
        pending = as_completed(raise_errors=False)

        def submit_next() -> None:
            # The number of submitted shards is bounded: a million tasks would overload scheduler and client.
            shard = next(remaining, None)
            if shard is not None:
                pending.add(client.submit(function, shard, pure=False, retries=2))

        for _ in range(min(limit, len(shards))):
            submit_next()
        try:
            done = 0
            for future in pending:
                if future.status == "lost" or future.cancelled():
                    raise _connection_lost(scheduler)
                try:
                    result = future.result()
                except KilledWorker as error:
                    raise UserError(
                        "a worker died repeatedly on the same shard, perhaps because memory ran out "
                        f"({error.task}); run the same command again to resume"
                    ) from None
                future.release()
                done += 1
                submit_next()
                yield result
            if done < len(shards):
                raise _connection_lost(scheduler)
        except CommClosedError:
            raise _connection_lost(scheduler) from None
        except BaseException:
            with suppress(Exception):
                client.cancel(list(pending.futures))
            raise


def _connection_lost(scheduler: str) -> UserError:
    return UserError(
        f"compute.scheduler {scheduler}: the connection to the scheduler is lost; run the same command again "
        "to resume"
    )


def _cluster(scheduler: str, stack: ExitStack) -> Any:
    """Return the address of a scheduler, or start a cluster that closes with `stack`."""
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
        cluster.adapt(minimum=1)  # without it no worker starts before the first task
        return cluster
    return scheduler


def _check_workers(client: Any, scheduler: str) -> None:
    """Wait for a worker, and check that package versions and source code equal the local ones."""
    if not scheduler.startswith(("local:", "slurm")) and not client.scheduler_info()["workers"]:
        log.warning("compute.scheduler %s: has no workers yet; waiting for one", scheduler)
    client.wait_for_workers(1)
    try:
        client.get_versions(check=True)
    except ValueError as error:
        raise UserError(
            f"compute.scheduler {scheduler}: the workers have other package versions: "
            f"{single_line(error, limit=1000)}"
        ) from None
    local = source_digest()
    others = [worker for worker, remote in client.run(source_digest).items() if remote != local]
    if others:
        raise UserError(
            f"compute.scheduler {scheduler}: {len(others)} worker(s) have other code ({others[0]}); "
            "start them from this version of the project"
        )
