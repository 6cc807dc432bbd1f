"""
What looks wrong with a training, in words: ``python -m sb3_ddpg_ext doctor``, or::

    from sb3_ddpg_ext.doctor import examine

    for finding in examine("logs/ddpg_ext/Pendulum-v1_1"):
        print(finding.name, finding.symptom, finding.cure)

``docs/doctor.md`` has a section for each check. A check of your own is a few lines::

    slow = register("slow", cause="...", cure="...")

    @slow.by
    def steps_each_second(training):  # the names of its arguments are those of Evidence
        return "..." if ... else None
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

# ruff: isort: split
from sb3_ddpg_ext.doctor import of_environment, of_model, of_acting, of_run  # noqa: F401, I001  # in the order of the report
from sb3_ddpg_ext.doctor.check import CHECKS, PAGE, Check, Finding, register
from sb3_ddpg_ext.doctor.gather import gather

__all__ = ["CHECKS", "PAGE", "Check", "Diagnosis", "Finding", "diagnose", "examine", "register"]


class Diagnosis(NamedTuple):
    """
    :param findings: what looks wrong
    :param made: names of the checks for which enough was known
    :param unseen: what could not be looked at, and why
    """

    findings: list[Finding]
    made: list[str]
    unseen: list[str]


def diagnose(
    what: Any = None,
    env: Any = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    vec_normalize: str | PathLike[str] | None = None,
    trusted: bool = False,
    seed: int = 0,
) -> Diagnosis:
    """
    Look at a training with every check for which enough is known.

    :param what: the file of a model, the folder of a training (of rl_zoo3, or with files of Monitor and EvalCallback), a
        model of :class:`~sb3_ddpg_ext.DDPG`, or None for an environment alone
    :param env: a single environment wrapped as in training, a ``VecEnv`` of one, or an id; a folder of rl_zoo3 brings its own.
        It is reset, and some thousand steps are made in it.
    :param env_kwargs: arguments of the environment, for an id
    :param vec_normalize: the file of ``VecNormalize``; a folder of rl_zoo3 brings its own
    :param trusted: whether to open pickles and to import code that a folder names: files of Stable-Baselines3's own models,
        ``VecNormalize``, wrappers. Without it they are left out, and said to be.
    :param seed: of the environment and the random actions
    :raises ValueError: if there is nothing to look at, a file is damaged, or the environment is not the model's
    """
    if what is None and env is None:
        raise ValueError("what=None and env=None: a model, its file, the folder of a training or an environment is needed")
    evidence, unseen = gather(what, env, env_kwargs, vec_normalize, trusted, seed)
    results = {name: check.made_on(evidence) for name, check in CHECKS.items()}
    findings = [finding for _, finding in results.values() if finding is not None]
    return Diagnosis(findings, [name for name, (was_made, _) in results.items() if was_made], unseen)


def examine(what: Any = None, env: Any = None, **options: Any) -> list[Finding]:
    """
    :param what: see :func:`diagnose`
    :param env: likewise
    :param options: likewise
    :return: what looks wrong; empty where nothing does
    """
    return diagnose(what, env, **options).findings
