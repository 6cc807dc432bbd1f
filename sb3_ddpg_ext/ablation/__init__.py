"""Experiments over settings and seeds: what is run, one run, and the files that keep what came of it."""

from sb3_ddpg_ext.ablation.store import Store
from sb3_ddpg_ext.ablation.study import Run, Study
from sb3_ddpg_ext.ablation.trial import Result, run_trial

__all__ = ["Result", "Run", "Store", "Study", "run_trial"]
