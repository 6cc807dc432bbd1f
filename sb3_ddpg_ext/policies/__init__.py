"""The networks of DDPG, by the names that ``DDPG(policy=...)`` takes."""

from sb3_ddpg_ext.policies.base import CnnPolicy, Critic, DDPGPolicy, MultiInputPolicy

MlpPolicy = DDPGPolicy

__all__ = ["CnnPolicy", "Critic", "DDPGPolicy", "MlpPolicy", "MultiInputPolicy"]
