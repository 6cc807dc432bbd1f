"""The way of a transition from the environment to the replay buffer."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq
from stable_baselines3.common.utils import should_collect_more_steps
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecTransposeImage, is_vecenv_wrapped

from sb3_ddpg_ext.buffers import HindsightReplayBuffer, TransitionReplayBuffer
from sb3_ddpg_ext.learners import Learner, TorchSettings
from sb3_ddpg_ext.noise import Noise
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.validation import check_finite, check_shape

IMMUTABLE = frozenset((bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int32, np.int64))


def step(env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """``env.step(actions)``, for SB3's own ``DummyVecEnv`` without its deep copies of what cannot change."""
    if type(env) is not DummyVecEnv or not env.__dict__.keys().isdisjoint(("step", "step_async", "step_wait")):
        return env.step(actions)  # type: ignore[return-value]
    env.actions = actions
    for i, (single, action) in enumerate(zip(env.envs, actions, strict=True)):
        obs, env.buf_rews[i], terminated, truncated, info = single.step(action)
        env.buf_infos[i] = info
        env.buf_dones[i] = terminated or truncated
        info["TimeLimit.truncated"] = truncated and not terminated
        if env.buf_dones[i]:
            info["terminal_observation"] = obs
            obs, env.reset_infos[i] = single.reset()
        env._save_obs(i, obs)
    new_obs = env.buf_obs[None].copy() if env.keys == [None] else env._obs_from_buf()  # type: ignore[index]
    return new_obs, env.buf_rews.copy(), env.buf_dones.copy(), [_copy_info(info) for info in env.buf_infos]


def _copy_info(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value if type(value) in IMMUTABLE else deepcopy(value) for key, value in info.items()}


class Collection(OffPolicyAlgorithm):
    """
    ``OffPolicyAlgorithm`` whose ``collect_rollouts`` does the same for callbacks, noise, buffer and log in less time.

    What an environment returns is checked before it is stored, so that the buffer and the model stay as good as they were.
    """

    policy: DDPGPolicy
    _learner: Learner | None
    repeat_warmup: bool
    learner: str
    precision: str
    n_threads: int | None
    _settings: dict[tuple, TorchSettings]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """
        Act and store, for ``train_freq`` steps or episodes. Names of local variables are those that SB3's callbacks know.

        The step at which a callback stops the training is stored, too, unlike in SB3.

        :param env: the training environments
        :param callback: called at each step, and at the beginning and the end
        :param train_freq: how much to collect
        :param replay_buffer: takes the transitions
        :param action_noise: added to the actions, on the [-1, 1] scale
        :param learning_starts: steps of an untrained model with random actions
        :param log_interval: episodes between two log entries
        """
        if self._learner is None or self._learner.needs_modes:
            self.policy.set_training_mode(False)
        num_collected_steps, num_collected_episodes = 0, 0
        continue_training = True
        callback.on_rollout_start()
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            actions, buffer_actions = self._sample_action(learning_starts, action_noise, env.num_envs)
            new_obs, rewards, dones, infos = step(env, actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1

            callback.update_locals(locals())
            continue_training = callback.on_step()
            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)  # type: ignore[arg-type]
            if not continue_training:
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training)

            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            if np.count_nonzero(dones):
                num_collected_episodes += self._end_episodes(np.flatnonzero(dones), action_noise, log_interval)
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training=True)

    def _end_episodes(self, ended: np.ndarray, action_noise: ActionNoise | None, log_interval: int | None) -> int:
        """Reset the noise of the environments whose episode has ended, and log where it is due. Returns their number."""
        for env in ended:
            self._episode_num += 1
            if action_noise is not None:
                is_for_all = isinstance(action_noise, Noise | VectorizedActionNoise)
                action_noise.reset(**(dict(indices=[env]) if is_for_all else {}))
            if log_interval is not None and self._episode_num % log_interval == 0:
                self.dump_logs()
        return len(ended)

    def _torch_settings(self, batch_size: int) -> TorchSettings:
        """For updates, and the threads also for acting."""
        given = (batch_size, self.n_threads, self.precision, self.learner == "eager")
        key = (*given, th.get_num_threads())
        if key not in self._settings:
            self._settings[key] = TorchSettings(self.policy, *given)
        return self._settings[key]

    def _check_normalisation(self) -> None:
        """Normalising twice would hide from the second what the first learns."""
        env, options = self._vec_normalize_env, self.policy.options
        is_around = env is not None and is_vecenv_wrapped(env, VecTransposeImage)
        if env is not None and not is_around and is_vecenv_wrapped(self.env, VecTransposeImage):  # type: ignore[arg-type]
            raise ValueError(
                "VecNormalize, whose observations are stored, must get images with their channels first: "
                "VecNormalize(VecTransposeImage(env)), or an environment that has them so"
            )
        for name, wrapped in (("normalize_observations", "norm_obs"), ("scale_returns", "norm_reward")):
            if env is not None and getattr(env, wrapped) and getattr(options, name):
                raise ValueError(
                    f"policy_kwargs[{name!r}] must be False where VecNormalize has {wrapped}=True; choose one of the two"
                )

    def _check_observation(self, name: str, observation: Any) -> None:
        check_shape(observation, self.observation_space, leading=(self.n_envs,))
        check_finite(name, observation)

    def _check_transition(self, new_obs: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        self._check_observation("observation", new_obs)
        check_finite("reward", rewards)
        if self._vec_normalize_env is not None:  # which clips what is infinite
            check_finite("observation", self._vec_normalize_env.get_original_obs())
            check_finite("reward", self._vec_normalize_env.get_original_reward())
        if np.count_nonzero(dones):
            for env in np.flatnonzero(dones):
                if infos[env].get("terminal_observation") is not None:
                    check_finite("terminal_observation", infos[env]["terminal_observation"])

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Refuse what is not finite, so that the buffer and the model stay as good as they were, then store."""
        self._check_transition(new_obs, reward, dones, infos)
        if self.policy.observes:
            self.policy.observe(self._last_obs, reward, dones, self.gamma)
        copies = type(replay_buffer) in (TransitionReplayBuffer, HindsightReplayBuffer)  # what it is given
        if self._vec_normalize_env is not None or not copies or np.count_nonzero(dones):
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
            return
        replay_buffer.add(self._last_obs, new_obs, buffer_action, reward, dones, infos)  # type: ignore[arg-type]
        self._last_original_obs, self._last_obs = self._last_obs, new_obs  # type: ignore[assignment]
