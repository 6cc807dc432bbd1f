"""The library of the compiled learner, if it was built: plain C behind ctypes, see ``source/``."""

from sb3_ddpg_ext.native.loading import LEVELS, levels_here, library
from sb3_ddpg_ext.native.structures import (
    MAX_CRITICS,
    MAX_GROUPS,
    MAX_LAYERS,
    TYPE_NAMES,
    Acting,
    Network,
    Plan,
    Step,
    describe,
    momentum_of,
)

__all__ = [
    "LEVELS",
    "MAX_CRITICS",
    "MAX_GROUPS",
    "MAX_LAYERS",
    "TYPE_NAMES",
    "Acting",
    "Network",
    "Plan",
    "Step",
    "describe",
    "levels_here",
    "library",
    "momentum_of",
]
