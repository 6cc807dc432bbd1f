"""Learners: one gradient step each, ``update(batch)``."""

from sb3_ddpg_ext.learners.eager import EagerLearner

__all__ = ["EagerLearner"]
