"""DDPG with memory, for partially observed tasks."""

from typing import Any, ClassVar

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy

from sb3_ddpg_ext.buffers import SequenceReplayBuffer
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.histories import Histories
from sb3_ddpg_ext.noise.base import PerturbedActor
from sb3_ddpg_ext.policies.recurrent import (
    CnnGruPolicy,
    CnnRecurrentPolicy,
    GruPolicy,
    MultiInputGruPolicy,
    MultiInputRecurrentPolicy,
    RecurrentPolicy,
)
from sb3_ddpg_ext.validation import is_subclass

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
    policy_base = RecurrentPolicy
    policy: RecurrentPolicy  # type: ignore[assignment]

    def __init__(self, policy: str | type[RecurrentPolicy], env: Any, *args: Any, **kwargs: Any):
        if len(args) < N_BEFORE_BATCH_SIZE:
            kwargs.setdefault("batch_size", 32)
        super().__init__(policy, env, *args, **kwargs)

    def _buffer_class(self) -> type[ReplayBuffer]:
        given = self.replay_buffer_class
        if given is None:
            return SequenceReplayBuffer
        if not is_subclass(given, SequenceReplayBuffer):
            raise TypeError(f"replay_buffer_class={given!r} must be a subclass of SequenceReplayBuffer or None")
        return given

    def _setup_model(self) -> None:
        if "demonstrations" in self.replay_buffer_kwargs:
            raise ValueError("replay_buffer_kwargs['demonstrations'] are not for RecurrentDDPG")
        super()._setup_model()
        self._check_noise()
        self._buffer().reserve_states(self.policy.state_size)
        self._histories = Histories()

    def _present_buffer(self) -> SequenceReplayBuffer:
        buffer: Any = super()._present_buffer()
        buffer.reserve_states(self.policy.state_size)
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
        return self.replay_buffer  # type: ignore[return-value]

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        before = self._last_obs
        result = super()._setup_learn(*args, **kwargs)
        self._check_noise()
        if self._last_obs is not before or not self._histories.have_begun:  # the environments have been reset
            self._histories.begin(self.policy, self.n_envs, self._buffer().stored_state)
        return result

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        with self._trainer.torch_settings(self.batch_size).threads:  # also where the action is random
            self._histories.take_in(self.policy, self._last_obs)
        return super()._sample_action(learning_starts, action_noise, n_envs)

    def _act(self, perturbed: PerturbedActor | None) -> np.ndarray:
        return self._histories.actions.reshape(-1, *self.action_space.shape)  # type: ignore[misc]

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
        histories = self._collector.histories(self._histories)
        if self._buffer().stored_state:
            self._buffer().hold_states(histories.as_rows())
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        histories.go_on(buffer_action, reward, dones)

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

    def parts_state(self) -> dict[str, Any]:
        """As :meth:`DDPG.parts_state`, with the histories of the present episodes."""
        return super().parts_state() | {"histories": self._histories.state()}

    def restore_parts(self, state: dict[str, Any]) -> None:
        """As :meth:`DDPG.restore_parts`."""
        super().restore_parts(state)
        self._histories.restore(state["histories"], self.device)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_histories"]
