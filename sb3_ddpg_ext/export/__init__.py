"""Actors alone, in files that act without the model: from raw observations to actions in the environment's units."""

from sb3_ddpg_ext.export.exporting import FORMATS, export, load
from sb3_ddpg_ext.export.parity import ParityError
from sb3_ddpg_ext.export.program import NotExpressible

__all__ = ["FORMATS", "NotExpressible", "ParityError", "export", "load"]
