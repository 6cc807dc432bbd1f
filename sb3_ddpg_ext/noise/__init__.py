"""Exploration noise: in the actions, in the parameters of the actor, and mixed with random actions."""

from sb3_ddpg_ext.noise.base import NOISES, AdditiveNoise, Noise
from sb3_ddpg_ext.noise.coloured import ColouredNoise
from sb3_ddpg_ext.noise.gaussian import CorrelatedNoise, GaussianNoise
from sb3_ddpg_ext.noise.make import as_noise, make_action_noise
from sb3_ddpg_ext.noise.mixing import CombinedNoise, UniformMixing
from sb3_ddpg_ext.noise.ornstein_uhlenbeck import OrnsteinUhlenbeckNoise
from sb3_ddpg_ext.noise.parameter import AdaptiveParameterNoise, FixedParameterNoise, ParameterNoise

__all__ = [
    "NOISES",
    "AdaptiveParameterNoise",
    "AdditiveNoise",
    "ColouredNoise",
    "CombinedNoise",
    "CorrelatedNoise",
    "FixedParameterNoise",
    "GaussianNoise",
    "Noise",
    "OrnsteinUhlenbeckNoise",
    "ParameterNoise",
    "UniformMixing",
    "as_noise",
    "make_action_noise",
]
