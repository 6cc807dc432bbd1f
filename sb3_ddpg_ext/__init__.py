"""DDPG for Stable-Baselines3: the algorithm, its policies and callbacks. ``sb3_ddpg_ext.zoo`` registers it in rl_zoo3."""

from sb3_ddpg_ext.callbacks import SaveOnBestMeanReturn, StopTrainingOnMeanReturn
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.policies import CnnPolicy, DDPGPolicy, MlpPolicy, MultiInputPolicy, PaperCnnPolicy, PaperPolicy
from sb3_ddpg_ext.recurrent import RecurrentDDPG

__version__ = "0.2.0"

__all__ = [
    "DDPG",
    "CnnPolicy",
    "DDPGPolicy",
    "MlpPolicy",
    "MultiInputPolicy",
    "PaperCnnPolicy",
    "PaperPolicy",
    "RecurrentDDPG",
    "SaveOnBestMeanReturn",
    "StopTrainingOnMeanReturn",
    "__version__",
]
