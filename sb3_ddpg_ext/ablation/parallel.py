"""Runs side by side, in processes of one thread each, on this machine or on a Ray cluster."""

import os
import signal
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from sb3_ddpg_ext.ablation.study import Run
from sb3_ddpg_ext.ablation.trial import Result, run_trial

BACKENDS = ("processes", "ray")
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


def attempt(run: Run, parent: int) -> Outcome:
    """
    Make one run; an error in it is an outcome, too.

    :param run: to make
    :param parent: process that handles Ctrl-C for all
    """
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.perf_counter()
    try:
        result, failure = run_trial(run), ""
    except Exception:
        result, failure = None, traceback.format_exc()
    return Outcome(run, result, failure, time.perf_counter() - started)


def run_all(runs: Sequence[Run], jobs: int, backend: str) -> Generator[Outcome, None, None]:
    """
    Outcomes in the order in which the runs end.

    A worker process that dies, for want of memory say, takes with it the runs that are on their way; they are made again.

    :param runs: to make
    :param jobs: runs at a time
    :param backend: ``"processes"`` of this machine, or ``"ray"``: the cluster that ``RAY_ADDRESS`` names, else a local one
    :raises ImportError: if joblib or Ray is missing
    :raises RuntimeError: if workers go on dying
    """
    try:
        import joblib
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    except ImportError as error:
        raise ImportError(f"ablate needs joblib ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error

    left = {run.key: run for run in runs}
    for _ in range(DEATHS):
        try:
            with _use(backend, jobs):
                parallel = joblib.Parallel(return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
                for outcome in parallel(joblib.delayed(attempt)(run, os.getpid()) for run in list(left.values())):
                    yield outcome
                    del left[outcome.run.key]
            return
        except TerminatedWorkerError as error:
            print(f"A worker process has died; {len(left)} runs are left ({str(error).splitlines()[0]})", flush=True)
    raise RuntimeError(f"worker processes have died {DEATHS} times; one of these runs may need more memory than there is")


def _use(backend: str, jobs: int) -> AbstractContextManager[Any]:
    import joblib

    if backend == "processes":
        return joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1) if jobs > 1 else nullcontext()
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise ImportError(f"--backend ray needs Ray ({error}): pip install 'sb3_ddpg_ext[ray]'") from error
    register_ray()
    return joblib.parallel_config("ray", n_jobs=jobs)


def stop_workers(backend: str) -> None:
    """At once; what they were doing is lost."""
    if backend == "processes":
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)
