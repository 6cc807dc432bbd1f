"""Runs side by side, in processes of one thread each, on this machine or on a Ray cluster."""

import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from sb3_ddpg_ext.ablation.study import Run
from sb3_ddpg_ext.ablation.trial import Result, run_trial

DEATHS = 3  # of worker processes that a study outlives


class Outcome(NamedTuple):
    """
    :param run: that has ended
    :param result: None where it has failed
    :param failure: its traceback; empty where it has not
    :param seconds: that it took
    """

    run: Run
    result: Result | None
    failure: str
    seconds: float


Outcomes = Generator[Outcome, None, None]


def attempt(run: Run, parent: int | None = None) -> Outcome:
    """
    Make one run; an error in it is an outcome, too.

    :param run: to make
    :param parent: the process that answers Ctrl-C for all
    """
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.perf_counter()
    try:
        result, failure = run_trial(run), ""
    except Exception:
        result, failure = None, traceback.format_exc()
    return Outcome(run, result, failure, time.perf_counter() - started)


def run_in_processes(runs: Sequence[Run], jobs: int | None) -> Outcomes:
    """
    Outcomes in the order in which the runs end, on this machine.

    A worker process that dies, for want of memory say, takes with it the runs that are on their way; they are made again.

    :param runs: to make
    :param jobs: runs at a time; None for one
    :raises ImportError: if joblib is missing
    :raises RuntimeError: if workers go on dying
    """
    try:
        import joblib
        from joblib.externals.loky import get_reusable_executor
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    except ImportError as error:
        raise ImportError(f"ablate needs joblib ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error

    left = {run.key: run for run in runs}
    for _ in range(DEATHS):
        try:
            with _settings(jobs or 1):
                parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
                for outcome in parallel(joblib.delayed(attempt)(run, os.getpid()) for run in list(left.values())):
                    del left[outcome.run.key]
                    yield outcome
            return
        except TerminatedWorkerError as error:
            print(f"A worker process has died; {len(left)} runs are left ({str(error).splitlines()[0]})", flush=True)
        except (KeyboardInterrupt, GeneratorExit):
            get_reusable_executor().shutdown(wait=True, kill_workers=True)
            raise
    raise RuntimeError(f"worker processes have died {DEATHS} times; a run may need more memory than there is")


def _settings(jobs: int) -> AbstractContextManager[Any]:
    import joblib

    return joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1) if jobs > 1 else nullcontext()


def run_on_ray(runs: Sequence[Run], jobs: int | None) -> Outcomes:
    """
    Outcomes in the order in which the runs end, on the cluster that ``RAY_ADDRESS`` names, else on one of this machine alone.

    joblib's backend for Ray is not used: it hands over no result before the last run has ended.

    :param runs: to make
    :param jobs: runs at a time; None for as many as the cluster has processors
    :raises ImportError: if Ray is missing
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"--backend ray needs Ray ({error}): pip install 'sb3_ddpg_ext[ray]'") from error

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    task = ray.remote(num_cpus=1)(attempt)
    waiting = list(runs)
    on_their_way: list[Any] = []
    try:
        while waiting or on_their_way:
            while waiting and len(on_their_way) < (jobs or len(runs)):
                on_their_way.append(task.remote(waiting.pop(0)))
            (ended, *_), on_their_way = ray.wait(on_their_way)
            yield ray.get(ended)
    finally:
        ray.shutdown()


BACKENDS: dict[str, Callable[[Sequence[Run], int | None], Outcomes]] = {"processes": run_in_processes, "ray": run_on_ray}
