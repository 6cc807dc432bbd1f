"""Wrappers of environments."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from sb3_ddpg_ext.checkpoints import EnvironmentState, environment_state, restore_environment
from sb3_ddpg_ext.validation import check_integer, check_real


class StackedRenderings(gym.Wrapper, RecordConstructorArgs):
    """
    Images in place of observations, as in the pixel experiments of Lillicrap et al. (2016), https://arxiv.org/abs/1509.02971,
    section 7: each action is repeated, and the renderings after each repetition, made small by area averaging, are the
    channels of one observation, so that velocities can be seen.

    Observations are of shape (size, size, 3 * repeat), unsigned bytes, which Stable-Baselines3 transposes and scales to [0, 1]
    itself. Rewards of the repetitions are summed. Where an episode ends in between, its last rendering fills the rest; an
    episode begins with its first rendering in all places.

    For rl_zoo3: ``env_wrapper: sb3_ddpg_ext.wrappers.StackedRenderings`` in the YAML file, and on the command line
    ``--env-kwargs render_mode:"'rgb_array'"``.

    :param env: made with ``render_mode="rgb_array"``
    :param size: height and width of an observation
    :param repeat: how often an action is repeated
    :raises ValueError: for another ``render_mode``, or numbers below 1
    """

    def __init__(self, env: gym.Env, size: int = 64, repeat: int = 3):
        RecordConstructorArgs.__init__(self, size=size, repeat=repeat)
        super().__init__(env)
        if env.render_mode != "rgb_array":
            raise ValueError(
                f"env.render_mode={env.render_mode!r} must be 'rgb_array': gym.make(..., render_mode='rgb_array')"
            )
        self.size, self.repeat = check_integer("size", size, at_least=1), check_integer("repeat", repeat, at_least=1)
        self.observation_space = spaces.Box(0, 255, (self.size, self.size, 3 * self.repeat), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        return np.concatenate([self._rendering()] * self.repeat, axis=2), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        frames: list[np.ndarray] = []
        total = 0.0
        while len(frames) < self.repeat:
            _, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            frames.append(self._rendering())
            if terminated or truncated:
                frames += [frames[-1]] * (self.repeat - len(frames))
        return np.concatenate(frames, axis=2), total, terminated, truncated, info

    def _rendering(self) -> np.ndarray:
        """The present rendering, of shape (size, size, 3)."""
        image = th.from_numpy(np.array(self.env.render())).permute(2, 0, 1)[None]
        small = th.nn.functional.interpolate(image.float(), (self.size, self.size), mode="area")
        return small[0].round().to(th.uint8).permute(1, 2, 0).numpy()


class PreviousReward(gym.Wrapper, RecordConstructorArgs):
    """
    The reward of the step before behind the observation, 0 at the beginning of an episode: an input of recurrent policies
    (Kapturowski et al. 2019, section 2.3) that ``evaluate_policy`` and rl_zoo3 hand on like any other.

    For rl_zoo3: ``env_wrapper: sb3_ddpg_ext.wrappers.PreviousReward`` in the YAML file.

    :param env: with vectors of floats as observations
    :raises ValueError: for other observations
    """

    def __init__(self, env: gym.Env):
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        space = env.observation_space
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype in (np.float32, np.float64)):
            raise ValueError(f"env.observation_space={space} must be a Box of vectors of floats")
        low, high = (np.append(bound, sign * np.inf) for bound, sign in ((space.low, -1), (space.high, 1)))
        self.observation_space = spaces.Box(low.astype(space.dtype), high.astype(space.dtype), dtype=space.dtype.type)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with(observation, 0.0), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._with(observation, float(reward)), float(reward), terminated, truncated, info

    def _with(self, observation: np.ndarray, reward: float) -> np.ndarray:
        return np.append(observation, reward).astype(self.observation_space.dtype)


class ScaledObservations(gym.wrappers.RescaleObservation):
    """
    Observations mapped from the bounds of their space to [-1, 1], by gymnasium's ``RescaleObservation``.

    For rl_zoo3: ``env_wrapper: sb3_ddpg_ext.wrappers.ScaledObservations`` in the YAML file.

    :param env: with a ``Box`` of finite bounds as observations
    :raises ValueError: for other observations, and for bounds that are infinite: there is no scale in them
    """

    def __init__(self, env: gym.Env):
        space = env.observation_space
        if not (isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)):
            raise ValueError(f"env.observation_space={space} must be a Box of floats")
        infinite = np.flatnonzero(~(np.isfinite(space.low) & np.isfinite(space.high)))
        if infinite.size:
            raise ValueError(
                f"env.observation_space of {env} must have finite bounds to be scaled by, but has none in dimensions "
                f"{infinite.tolist()}: use policy_kwargs=dict(normalize_observations=True) or VecNormalize in its place"
            )
        low, high = np.full_like(space.low, -1), np.full_like(space.high, 1)
        super().__init__(env, low, high)


class ScaledRewards(gym.RewardWrapper, RecordConstructorArgs):
    """
    Rewards multiplied by a number: in other units, or to see what an agent makes of them.

    For rl_zoo3: ``env_wrapper: [{sb3_ddpg_ext.wrappers.ScaledRewards: {factor: 0.001}}]`` in the YAML file.
    Returns are reported in the environment's own units where a ``Monitor`` is inside this wrapper, as with rl_zoo3 and
    ``make_vec_env``.

    :param env: any environment
    :param factor: above 0
    :raises ValueError: for a factor that is not
    """

    def __init__(self, env: gym.Env, factor: float):
        self.factor = check_real("factor", factor, 0, above=True)
        RecordConstructorArgs.__init__(self, factor=factor)
        super().__init__(env)

    def reward(self, reward: SupportsFloat) -> float:
        return self.factor * float(reward)


class Resumable(gym.Wrapper, RecordConstructorArgs):
    """
    Lets checkpoints reach an environment in another process: a vectorised environment asks it for its state there.

    ``make_vec_env(env_id, 8, wrapper_class=Resumable, vec_env_cls=SubprocVecEnv)``, or for rl_zoo3
    ``env_wrapper: sb3_ddpg_ext.wrappers.Resumable`` in the YAML file. An environment in the process of the training needs no
    such wrapper.

    :param env: any environment
    """

    def __init__(self, env: gym.Env):
        RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def get_state(self) -> EnvironmentState | str:
        """:return: the state, or why it cannot be taken"""
        try:
            return environment_state(self.env)
        except ValueError as reason:
            return str(reason)

    def set_state(self, state: EnvironmentState) -> None:
        """:param state: of an environment that was made alike"""
        restore_environment(self.env, state)
