"""The choice of a learner."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sb3_ddpg_ext.kinds import naming_given
from sb3_ddpg_ext.learners.base import AUTO, LEARNERS, Learner, UpdateSettings
from sb3_ddpg_ext.learners.compiled import CompiledLearner  # noqa: F401  # registers itself, as the next three do
from sb3_ddpg_ext.learners.cuda_graph import CudaGraphLearner  # noqa: F401
from sb3_ddpg_ext.learners.eager import EagerLearner  # noqa: F401
from sb3_ddpg_ext.learners.fused import FusedLearner  # noqa: F401
from sb3_ddpg_ext.policies import DDPGPolicy

# For "auto". A CUDA graph is for those who ask for it: it has not been measured yet.
FASTEST_FIRST = ("compiled", "fused", "eager")


class Choice(NamedTuple):
    """
    A learner that can train a policy.

    :param make: makes the learner from the policy and the settings
    :param name: its kind, or the name of its class
    :param reasons: for each faster one why it cannot
    """

    make: Callable[[DDPGPolicy, UpdateSettings], Learner]
    name: str
    reasons: dict[str, str]


def check_learner(spec: Any) -> None:
    """
    :param spec: ``"auto"``, the kind of a learner, a dict with a kind and its arguments, or a subclass of :class:`Learner`
    :raises ValueError: for an unknown kind
    :raises TypeError: for anything else
    """
    if not (isinstance(spec, str) and spec == AUTO):
        _named(spec)


def _named(spec: Any) -> tuple[str, Any, dict[str, Any]]:
    """The name, the class, and the arguments that a user has given."""
    if LEARNERS.accepts(spec):
        return spec.__name__, spec, {}
    kind, arguments = LEARNERS.kind_and_arguments("learner", spec)
    return kind, LEARNERS[kind], arguments


def choose_learner(spec: Any, policy: DDPGPolicy, settings: UpdateSettings) -> Choice:
    """
    :param spec: as for :func:`check_learner`; ``"auto"`` takes the fastest that can train the policy
    :param policy: what is to be trained
    :param settings: of the updates
    :raises ValueError: if the learner that was asked for cannot train the policy
    """
    reasons: dict[str, str] = {}
    for asked in FASTEST_FIRST if spec == AUTO else (spec,):
        name, learner, arguments = _named(asked)
        reason = learner.reason_against(policy, settings)
        if reason is None:
            make = partial(_made, learner, spec, arguments) if arguments else partial(learner)
            return Choice(make, name, reasons)
        reasons[name] = reason
    if spec == AUTO:
        raise AssertionError("the eager learner takes every policy")
    raise ValueError(f"learner={spec!r} cannot train this model: {reason}; learner='auto' takes the fastest that can")


def _made(
    learner: type[Learner], spec: Any, arguments: dict[str, Any], policy: DDPGPolicy, settings: UpdateSettings
) -> Learner:
    with naming_given(f"learner={spec!r}"):
        return learner(policy, settings, **arguments)
