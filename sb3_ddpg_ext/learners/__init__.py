"""Learners, each of which makes a gradient step by ``update(batch)``; the choice of one; settings of torch for it."""

from sb3_ddpg_ext.learners.base import LEARNERS, Learner, UpdateSettings
from sb3_ddpg_ext.learners.choose import check_learner, choose_learner
from sb3_ddpg_ext.learners.compiled import CompiledLearner
from sb3_ddpg_ext.learners.cuda_graph import CudaGraphLearner
from sb3_ddpg_ext.learners.eager import EagerLearner
from sb3_ddpg_ext.learners.fused import FusedLearner
from sb3_ddpg_ext.learners.loss_log import LossLog
from sb3_ddpg_ext.learners.torch_settings import TorchSettings, has_amx, warn_if_bf16_is_slow, warn_if_oversubscribed

__all__ = [
    "LEARNERS",
    "CompiledLearner",
    "CudaGraphLearner",
    "EagerLearner",
    "FusedLearner",
    "Learner",
    "LossLog",
    "TorchSettings",
    "UpdateSettings",
    "check_learner",
    "choose_learner",
    "has_amx",
    "warn_if_bf16_is_slow",
    "warn_if_oversubscribed",
]
