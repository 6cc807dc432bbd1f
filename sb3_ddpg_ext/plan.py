"""What ``learn()`` does without being told."""

from typing import NamedTuple

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback


class Plan(NamedTuple):
    """
    The training that a preset describes.

    :param n_timesteps: its length
    :param callbacks: beside those that ``learn`` is given
    """

    n_timesteps: int
    callbacks: list[BaseCallback]

    def completes(self, total_timesteps: int | None, callback: MaybeCallback) -> tuple[int, MaybeCallback]:
        """
        :param total_timesteps: what ``learn`` was given, or None
        :param callback: likewise, in any of the forms that it takes
        :return: the length of the training, and all callbacks
        """
        total_timesteps = self.n_timesteps if total_timesteps is None else total_timesteps
        if not self.callbacks:
            return total_timesteps, callback
        given = callback if isinstance(callback, list) else [] if callback is None else [callback]
        converted = [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in given]
        return total_timesteps, CallbackList([*self.callbacks, *converted])
