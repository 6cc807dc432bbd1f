"""The networks of DDPG, by the names that ``DDPG(policy=...)`` takes."""

from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.base import CnnPolicy, DDPGPolicy, MultiInputPolicy
from sb3_ddpg_ext.policies.critics import Critic, JointCritic
from sb3_ddpg_ext.policies.paper import PaperCnnPolicy, PaperPolicy

MlpPolicy = DDPGPolicy

__all__ = [
    "Actor",
    "CnnPolicy",
    "Critic",
    "DDPGPolicy",
    "JointCritic",
    "MlpPolicy",
    "MultiInputPolicy",
    "PaperCnnPolicy",
    "PaperPolicy",
]
