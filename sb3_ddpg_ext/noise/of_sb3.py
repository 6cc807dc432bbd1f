"""The noises of Stable-Baselines3 as ours."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise

from sb3_ddpg_ext.noise.base import Noise


class SB3Noise(Noise):
    """
    An ``ActionNoise`` of Stable-Baselines3, or a user's own, as :class:`Noise`: it is added to the actions. Its random numbers
    are NumPy's global ones, as in Stable-Baselines3.

    :param noise: for one environment, or a ``VectorizedActionNoise`` for several
    """

    def __init__(self, noise: ActionNoise):
        super().__init__()
        self.noise = noise
        self._is_for_several = isinstance(noise, VectorizedActionNoise)

    def reset(self, indices: Iterable[int] | None = None) -> None:
        if self._is_for_several:
            self.noise.reset(indices=indices)  # type: ignore[call-arg]
        else:
            self.noise.reset()

    def apply(self, actions: np.ndarray) -> np.ndarray:
        return actions + np.reshape(self.noise(), (-1, actions.shape[1]))

    def statistics(self) -> dict[str, float]:
        of_one: Any = self.noise.base_noise if self._is_for_several else self.noise  # type: ignore[attr-defined]
        sigma = getattr(of_one, "_sigma", None)
        return {} if sigma is None else {"sigma": float(np.mean(sigma))}
