"""Which learner."""

from sb3_ddpg_ext.learners.base import Learner
from sb3_ddpg_ext.learners.cuda_graph import CudaGraphLearner
from sb3_ddpg_ext.learners.eager import EagerLearner
from sb3_ddpg_ext.learners.fused import FusedLearner
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.validation import check_choice

LEARNERS: dict[str, type[Learner]] = {learner.name: learner for learner in (EagerLearner, FusedLearner, CudaGraphLearner)}
# For "auto". A CUDA graph is for those who ask for it: it has not been measured yet.
FASTEST_FIRST: tuple[type[Learner], ...] = (FusedLearner, EagerLearner)


def choose_learner(name: str, policy: DDPGPolicy, precision: str) -> tuple[type[Learner], dict[str, str]]:
    """
    :param name: of the learner, or ``"auto"`` for the fastest that can train the policy
    :param policy: what is to be trained
    :param precision: of the matrix products
    :return: the learner, and why each faster one was refused
    :raises ValueError: if the learner that was asked for cannot train the policy
    """
    check_choice("learner", name, ["auto", *LEARNERS])
    if name != "auto":
        reason = LEARNERS[name].refusal(policy, precision)
        if reason is not None:
            raise ValueError(f"learner={name!r} cannot train this model: {reason}; learner='auto' takes the fastest that can")
        return LEARNERS[name], {}
    refused: dict[str, str] = {}
    for learner in FASTEST_FIRST:
        reason = learner.refusal(policy, precision)
        if reason is None:
            return learner, refused
        refused[learner.name] = reason
    raise AssertionError("the eager learner takes every policy")
