"""DDPG for Stable-Baselines3: the algorithm, its policies, callbacks and the rl_zoo3 registration.

The public names are loaded on first use. This file itself imports nothing but ``importlib``, because ``import torch`` runs it
(see ``sb3_ddpg_ext._autoload``) in programs that may never touch this library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sb3_ddpg_ext.callbacks import SaveOnBestMeanReturn, StopTrainingOnMeanReturn
    from sb3_ddpg_ext.ddpg import DDPG
    from sb3_ddpg_ext.policies import CnnPolicy, DDPGPolicy, MlpPolicy, MultiInputPolicy

_MODULE_OF = {
    "DDPG": "ddpg",
    "DDPGPolicy": "policies",
    "MlpPolicy": "policies",
    "CnnPolicy": "policies",
    "MultiInputPolicy": "policies",
    "StopTrainingOnMeanReturn": "callbacks",
    "SaveOnBestMeanReturn": "callbacks",
}

__all__ = [
    "DDPG",
    "CnnPolicy",
    "DDPGPolicy",
    "MlpPolicy",
    "MultiInputPolicy",
    "SaveOnBestMeanReturn",
    "StopTrainingOnMeanReturn",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
