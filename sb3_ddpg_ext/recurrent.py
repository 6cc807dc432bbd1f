"""DDPG with memory, for partially observed tasks."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy

from sb3_ddpg_ext.buffers import SequenceReplayBuffer
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.networks.recurrent import State
from sb3_ddpg_ext.policies.recurrent import (
    CnnGruPolicy,
    CnnRecurrentPolicy,
    GruPolicy,
    MultiInputGruPolicy,
    MultiInputRecurrentPolicy,
    RecurrentPolicy,
)

N_BEFORE_BATCH_SIZE = 4  # arguments between env and batch_size, where these are given by their position


class RecurrentDDPG(DDPG):
    """
    DDPG whose actor and critic each take the history in with an LSTM or GRU of their own, and learn from sequences.

    With whole episodes, ``replay_buffer_kwargs=dict(sequence_length=None)``, it is RDPG (Heess et al. 2015,
    https://arxiv.org/abs/1512.04455); with ``dict(sequence_length=80, overlap=40, burn_in=40, stored_state=True,
    sampling="prioritized_0.9")`` it replays as R2D2 (Kapturowski et al. 2019). ``predict`` takes and gives a state, as
    sb3-contrib's ``RecurrentPPO`` does.

    :param policy: ``"MlpLstmPolicy"``, ``"CnnLstmPolicy"``, ``"MultiInputLstmPolicy"``, the same with ``Gru``, or a subclass
        of :class:`~sb3_ddpg_ext.policies.recurrent.RecurrentPolicy`
    :param env: environment, or its id
    :param args: as for :class:`DDPG`
    :param kwargs: as for :class:`DDPG`, with ``batch_size`` counted in sequences, 32 by default. ``replay_buffer_class`` is
        :class:`~sb3_ddpg_ext.buffers.SequenceReplayBuffer` or a subclass; noise in the actor's parameters and
        demonstrations are not for it.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpLstmPolicy": RecurrentPolicy,
        "CnnLstmPolicy": CnnRecurrentPolicy,
        "MultiInputLstmPolicy": MultiInputRecurrentPolicy,
        "MlpGruPolicy": GruPolicy,
        "CnnGruPolicy": CnnGruPolicy,
        "MultiInputGruPolicy": MultiInputGruPolicy,
    }
    has_memory = True
    policy: RecurrentPolicy  # type: ignore[assignment]

    def __init__(self, policy: str | type[RecurrentPolicy], env: Any, *args: Any, **kwargs: Any):
        if len(args) < N_BEFORE_BATCH_SIZE:
            kwargs.setdefault("batch_size", 32)
        super().__init__(policy, env, *args, **kwargs)

    def _check_policy(self, policy: Any) -> None:
        if isinstance(policy, type) and not issubclass(policy, RecurrentPolicy):
            raise TypeError(f"policy={policy!r} must be one of {sorted(self.policy_aliases)} or a subclass of RecurrentPolicy")
        super()._check_policy(policy)

    def _buffer_class(self, n_steps: int) -> type[ReplayBuffer]:
        given = self.replay_buffer_class
        if given is None:
            return SequenceReplayBuffer
        if not (isinstance(given, type) and issubclass(given, SequenceReplayBuffer)):
            raise TypeError(f"replay_buffer_class={given!r} must be a subclass of SequenceReplayBuffer or None")
        return given

    def _setup_model(self) -> None:
        if "demonstrations" in self.replay_buffer_kwargs:
            raise ValueError("replay_buffer_kwargs['demonstrations'] are not for RecurrentDDPG")
        super()._setup_model()
        self._check_noise()
        self._buffer().hold_states(self.policy.state_size)
        self._states: list[State] = []
        self._previous: tuple[th.Tensor, th.Tensor] | None = None  # actions and rewards

    def _present_buffer(self) -> SequenceReplayBuffer:
        buffer: Any = super()._present_buffer()
        buffer.hold_states(self.policy.state_size)
        return buffer

    def _check_noise(self) -> None:
        if self.parameter_noise is not None:
            raise ValueError(f"action_noise={self.action_noise!r} must have no noise in the parameters of a recurrent actor")

    def prefill(self, source: Any) -> None:
        """
        As :meth:`DDPG.prefill`.

        :raises ValueError: where states are stored, which recorded episodes do not have
        """
        if self._buffer().stored_state:
            raise ValueError("replay_buffer_kwargs['stored_state'] must be False to prefill: recorded episodes have no states")
        super().prefill(source)

    def _buffer(self) -> SequenceReplayBuffer:
        assert isinstance(self.replay_buffer, SequenceReplayBuffer)
        return self.replay_buffer

    def _begin(self) -> None:
        """All episodes, with states of zeros."""
        n, dtype = self.n_envs, next(self.policy.parameters()).dtype
        nets = (self.policy.actor, self.policy.critic) if self._buffer().stored_state else (self.policy.actor,)
        self._states = [net.encoder.initial_state(n) for net in nets]  # type: ignore[operator, union-attr]
        action_dim = self._action_dim()
        self._previous = (
            th.zeros(n, action_dim, device=self.device, dtype=dtype),
            th.zeros(n, 1, device=self.device, dtype=dtype),
        )

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        before = self._last_obs
        result = super()._setup_learn(*args, **kwargs)
        self._check_noise()
        if self._last_obs is not before or not self._states:  # the environments have been reset
            self._begin()
        return result

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        assert self._previous is not None
        with th.no_grad(), self._torch_settings(self.batch_size).threads:
            obs, _ = self.policy.obs_to_tensor(self._last_obs)  # type: ignore[arg-type]
            scaled, self._next_states = self.policy.step(obs, *self._previous, self._states)
        self._scaled = scaled.cpu().numpy().reshape(-1, *self.action_space.shape)  # type: ignore[misc]
        return super()._sample_action(learning_starts, action_noise, n_envs)

    def _act(self, parameter_noise: Any) -> np.ndarray:
        return self._scaled

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: Any,
    ) -> None:
        """Store, and only then, when nothing can fail any more, go on to the next state."""
        pos = replay_buffer.pos
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if self._buffer().stored_state:
            self._buffer().hold(pos, _flat(self._states))
        assert self._previous is not None
        self._states = self._next_states
        self._previous[0].copy_(th.as_tensor(buffer_action).reshape(self.n_envs, -1))
        self._previous[1].copy_(th.as_tensor(reward).reshape(-1, 1))
        if np.count_nonzero(dones):
            ended = th.as_tensor(np.asarray(dones, bool)).to(self.device)
            for part in (*self._previous, *(part.transpose(0, 1) for state in self._states for part in state)):
                part[ended] = 0

    def _draw(self, batch_size: int) -> Any:
        return self._buffer().sample(batch_size, env=self._vec_normalize_env)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        previous_reward: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """See :meth:`~sb3_ddpg_ext.policies.recurrent.RecurrentPolicy.predict`."""
        return self.policy.predict(observation, state, episode_start, deterministic, previous_reward)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_states", "_next_states", "_previous", "_scaled"]


def _flat(states: list[State]) -> np.ndarray:
    """One row for each environment."""
    parts = [part.transpose(0, 1).flatten(1) for state in states for part in state]
    return th.cat(parts, dim=1).cpu().numpy()
