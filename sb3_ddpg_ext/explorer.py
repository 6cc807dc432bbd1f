"""The actions of a training: random ones at first, then those of the policy with noise."""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.noise import Noise, as_noise, make_action_noise
from sb3_ddpg_ext.noise.base import PerturbedActor, applied

N_RECENT = 1000  # steps whose actions the log counts at the bounds


class Explorer:
    """
    Chooses the actions of a training, all on the [-1, 1] scale.

    It knows the noise and the last actions. The policy's actions and the progress of the training are given to it.
    """

    def __init__(self) -> None:
        self._given: ActionNoise | None = None
        self._noise: Noise | None = None
        self._recent_actions: deque[np.ndarray] = deque(maxlen=N_RECENT)

    def noise_of(self, action_noise: ActionNoise | None) -> Noise | None:
        """
        :param action_noise: of the model, one of Stable-Baselines3 too
        :return: the same as one of ours
        """
        if action_noise is not self._given:
            self._given, self._noise = action_noise, as_noise(action_noise)
        return self._noise

    def explore(
        self,
        act: Callable[[PerturbedActor | None], np.ndarray],
        draw: Callable[[], np.ndarray],
        noise: Noise | None,
        n_random: int,
        noise_in_warmup: bool,
        progress_remaining: float,
        num_timesteps: int,
    ) -> np.ndarray:
        """
        :param act: gives the policy's actions, (n_envs, \\*action_shape), by the perturbed actor where it is given one
        :param draw: gives uniform random actions of the same shape
        :param noise: None for none
        :param n_random: so many environment steps act at random
        :param noise_in_warmup: whether the noise is added to these actions, too
        :param progress_remaining: from 1 to 0
        :param num_timesteps: environment steps until now
        :return: the actions, clipped to [-1, 1]
        """
        if noise is not None:
            noise.set_progress(progress_remaining, num_timesteps)
        if num_timesteps < n_random:
            actions, noise = draw(), noise if noise_in_warmup else None
        else:
            actions = act(None if noise is None else noise.parameter_noise)
        if noise is not None:
            noisy = applied(noise, actions.reshape(len(actions), -1)).reshape(actions.shape)
            actions = np.minimum(np.maximum(noisy, -1), 1)
        self._recent_actions.append(actions)
        return actions

    def take_note(self, actions: np.ndarray, noise: Noise | None, progress_remaining: float, num_timesteps: int) -> None:
        """
        Know of actions that were chosen elsewhere, for the log.

        :param actions: on the [-1, 1] scale, (n_envs, \\*action_shape)
        :param noise: that the model has
        :param progress_remaining: from 1 to 0
        :param num_timesteps: environment steps until now
        """
        if noise is not None:
            noise.set_progress(progress_remaining, num_timesteps)
        self._recent_actions.append(actions)

    def state(self) -> list[np.ndarray]:
        """What :meth:`restore` takes, for a training that goes on from a checkpoint."""
        return list(self._recent_actions)

    def restore(self, state: list[np.ndarray]) -> None:
        """:param state: of :meth:`state`"""
        self._recent_actions.extend(state)

    def end_episode(self, action_noise: ActionNoise | None, env: int) -> None:
        """
        :param action_noise: of the model
        :param env: the number of the environment whose episode has ended
        """
        noise = self.noise_of(action_noise)
        if noise is not None:
            noise.reset(indices=[env])

    def statistics(self, action_noise: ActionNoise | None) -> dict[str, float]:
        """
        What is to be logged: the scale of the noise now, and the share of actions at the bounds since the last time, in at
        most 1000 steps. A share for each dimension has its number behind it.

        :param action_noise: of the model
        """
        noise = self.noise_of(action_noise)
        numbers = {} if noise is None else dict(noise.statistics())
        if self._recent_actions:
            is_at_bound = np.abs(np.concatenate(self._recent_actions)) >= 1
            self._recent_actions.clear()
            shares = is_at_bound.reshape(len(is_at_bound), -1).mean(axis=0)
            numbers["at_bounds"] = float(shares.mean())
            numbers |= {f"at_bounds_{dim}": float(share) for dim, share in enumerate(shares if len(shares) > 1 else ())}
        return numbers


def needs_preparing(action_noise: Any) -> bool:
    """
    :param action_noise: what stands in the place of a model's noise
    :return: whether a user has put it there since the model was made
    """
    is_made = isinstance(action_noise, ActionNoise | None)
    return not is_made or getattr(action_noise, "n_envs", None) == 0


def prepare_noise(
    spec: Any,
    action_shape: Any,
    env: VecEnv | None,
    n_envs: int,
    seed: int | None,
    num_timesteps: int,
    is_loading: bool,
    verbose: int = 0,
) -> ActionNoise | None:
    """
    Make the noise for these environments. A noise of ours is copied, so that another model can be given it, too.

    :param spec: what a user has given, or what was in a file, which goes on where it was
    :param action_shape: of one action
    :param env: the environments, or None
    :param n_envs: their number
    :param seed: of the model
    :param num_timesteps: environment steps until now
    :param is_loading: whether the model comes from a file
    :param verbose: 1 to print what a user may not expect of the noise
    """
    of_one = getattr(spec, "base_noise", spec)  # of a VectorizedActionNoise
    if of_one is not spec and spec.n_envs != n_envs:
        spec = of_one  # loaded with another number of environments
    action_dim = int(np.prod(action_shape or ()))
    noise = make_action_noise(spec, action_dim)
    if not isinstance(noise, Noise):
        return noise
    for remark in (member.remark for member in noise.members if verbose and member.remark):
        print(f"Noise: {remark}")
    if not (is_loading and noise is spec and noise.n_envs > 0):
        return deepcopy(noise).prepare(action_dim, n_envs, seed, _episode_length(noise, env))
    if noise.n_envs != n_envs:
        moved_seed = None if seed is None else seed + num_timesteps  # not the random numbers of its beginning again
        noise.move_to(n_envs, moved_seed, _episode_length(noise, env))
    return noise


def is_same_noise(given: Any, saved: Any, action_dim: int) -> bool:
    """
    :param given: a description of a noise, or an object
    :param saved: the noise of a file
    :param action_dim: dimensions of an action
    :return: whether the two are the same but for how far they are, by what :class:`Noise` says of public attributes
    """
    made: Any = make_action_noise(deepcopy(given), action_dim)
    pairs = [getattr(noise, "members", [noise]) for noise in (made, saved)]
    return made is not None and len(pairs[0]) == len(pairs[1]) and all(map(_is_as_given, *pairs))


def _is_as_given(made: Any, saved: Any) -> bool:
    """Whether the second still has what the first, which has not been prepared, was given; it may have more by now."""
    if not isinstance(made, Noise) or type(made) is not type(saved):
        return repr(made) == repr(saved)
    return made.shown_attributes().items() <= saved.shown_attributes().items()


def _episode_length(noise: Noise, env: VecEnv | None) -> int | None:
    """The length of the longest episode, if the noise asks for it and all environments say it."""
    attribute = "_max_episode_steps"  # of gymnasium's TimeLimit; an environment's spec may not go through a pipe
    if not noise.wants_episode_length or env is None or not env.has_attr(attribute):
        return None
    return max(env.get_attr(attribute))
