"""The library of the compiled learner, if it was built: plain C behind ctypes, see ``source/``."""

from sb3_ddpg_ext.native.loading import LEVELS, levels_here, library
from sb3_ddpg_ext.native.structures import (
    ACTIVATIONS,
    MAX_CRITICS,
    MAX_GROUPS,
    MAX_LAYERS,
    Adam,
    Group,
    Layer,
    Network,
    Plan,
    Step,
)

__all__ = [
    "ACTIVATIONS",
    "LEVELS",
    "MAX_CRITICS",
    "MAX_GROUPS",
    "MAX_LAYERS",
    "Adam",
    "Group",
    "Layer",
    "Network",
    "Plan",
    "Step",
    "levels_here",
    "library",
]
