"""
Arguments at random: each case trains, or is refused by an error that names one of its arguments.

python tests/fuzzing.py --cases 100000 --seed 0

Every single value comes first, then pairs, and now and then three, of values that train alone.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter

import gymnasium as gym
import numpy as np
import torch as th
from fuzzing_values import ANYTHING, OF_SUBJECTS, SUBJECTS, B, P

N_STEPS, SECONDS = 30, 5
# By what else a value of an argument may be named.
ALSO = {
    "env": ("policy", "observation", "action_space"),
    "replay_buffer_class": ("Buffer",),
    "policy": ("observation",),
}


class TooSlow(BaseException):
    """A case that takes more than some seconds of the processor."""


def _give_up(signum, frame):
    raise TooSlow


def all_arguments(case, subject="plain"):
    """What the class is given: the arguments of a case in place of the subject's."""
    arguments = SUBJECTS[subject][1] | {name: dict(values) for name, values in OF_SUBJECTS[subject].items()}
    for path, value in sorted(case.items(), key=lambda item: len(item[0])):
        *of, name = path
        (arguments.setdefault(of[0], {}) if of else arguments)[name] = value
    if isinstance(arguments["env"], type) and issubclass(arguments["env"], gym.Env):
        arguments["env"] = arguments["env"]()
    return arguments


def names_of(case):
    """One of these must be in an error."""
    names = [path[-1] for path in case]
    for path, value in case.items():
        if path[-1] in (P, B) and isinstance(value, dict):
            names += map(str, value)
    return names + [other for name in names for other in ALSO.get(name, ())]


@contextlib.contextmanager
def isolated():
    """A folder of its own, no output, a limit in time, and torch's threads as before."""
    before, threads = os.getcwd(), th.get_num_threads()
    handler = signal.signal(signal.SIGPROF, _give_up)
    with contextlib.ExitStack() as stack:
        os.chdir(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, handler)
            os.chdir(before)
            th.set_num_threads(threads)


def outcome(case, subject="plain"):
    """
    :param case: by (argument,) or (dict, argument), the value
    :param subject: see SUBJECTS
    :return: "trains", "refused", or what went wrong
    """
    try:
        with isolated():
            arguments = all_arguments(case, subject)
            model = SUBJECTS[subject][0](**arguments)
            if not arguments.get("_init_setup_model", True):
                model._setup_model()
            model.learn(N_STEPS)
    except (ValueError, TypeError) as error:
        if any(name in str(error) for name in names_of(case)):
            return "refused"
        return f"names nothing: {type(error).__name__}: {str(error)[:200]}"
    except TooSlow:
        return f"takes more than {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "trains"


def single_cases(subject):
    """Every argument alone, with every value."""
    for path, of_argument in SUBJECTS[subject][2].items():
        for value in [*of_argument, *ANYTHING]:
            yield {path: value}


def described(case):
    return ", ".join(f"{'.'.join(path)}={value!r:.60}" for path, value in case.items())


def combined(rng, good):
    """
    A case of two or three arguments.

    :param rng: Python's random numbers
    :param good: values of each argument that train alone
    """
    while True:
        paths = rng.sample(sorted(good), 3 if rng.random() < 0.2 else 2)
        if not any(path[:1] in paths for path in paths if len(path) > 1):  # else a dict and an entry of it
            return {path: rng.choice(good[path]) for path in paths}


class Report:
    """Counts, and each distinct fault once."""

    def __init__(self):
        self.counts, self.faults = Counter(), {}

    def add(self, subject, case, result):
        is_good = result in ("trains", "refused")
        self.counts[result if is_good else "fault"] += 1
        key = subject, tuple(sorted(case)), result[:60]
        if not is_good and key not in self.faults:
            self.faults[key] = f"{subject}: {described(case)}\n    {result}"
            print(self.faults[key], flush=True)

    def __str__(self):
        return f"{self.counts.total()} cases: {dict(self.counts)}; {len(self.faults)} distinct faults"


def run(n_cases, seed, report, until=float("inf")):
    """
    :param n_cases: at least so many as there are single values
    :param seed: of the pairs
    :param report: takes what comes out
    :param until: a time, after which no more pairs are tried
    """
    rng, good = random.Random(seed), {subject: {} for subject in SUBJECTS}
    for subject in SUBJECTS:
        for case in single_cases(subject):
            result = outcome(case, subject)
            report.add(subject, case, result)
            ((path, value),) = case.items()
            if result == "trains":
                good[subject].setdefault(path, []).append(value)
    print("alone:", report, flush=True)
    while report.counts.total() < n_cases and time.time() < until:
        subject = rng.choices(list(SUBJECTS), (8, 1, 1))[0]
        case = combined(rng, good[subject])
        report.add(subject, case, outcome(case, subject))


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000, help="how many; every single value comes first")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no more pairs are tried")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    report, begin = Report(), time.time()
    run(arguments.cases, arguments.seed, report, begin + 60 * arguments.minutes)
    print(f"{report}; {time.time() - begin:.0f} s")
    raise SystemExit(bool(report.faults))


if __name__ == "__main__":
    main()
