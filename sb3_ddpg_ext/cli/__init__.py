"""Commands of ``python -m sb3_ddpg_ext``."""
