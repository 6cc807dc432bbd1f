"""The learner's side of a collection on Ray."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ddpg_ext.collector import Collector, Moment
from sb3_ddpg_ext.distributed.acting import Parameters, numbers_of
from sb3_ddpg_ext.distributed.chunk import Order
from sb3_ddpg_ext.distributed.crew import Crew, Hand
from sb3_ddpg_ext.distributed.envs import RemoteEnvs
from sb3_ddpg_ext.distributed.making import as_seen, set_rows
from sb3_ddpg_ext.distributed.pace import Pace
from sb3_ddpg_ext.noise import Noise
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.policies import DDPGPolicy

LOOK_EVERY = 0.2  # seconds between two looks at the workers while there are rows
PATIENCE = 0.5  # seconds of one wait; Ctrl-C and time limits are seen between two
IN_A_LINE = 2  # chunks that a worker is asked for at a time, so that it never waits for the next


class Learning(NamedTuple):
    """
    What a collection asks of the model.

    :param policy: that the workers act by
    :param noise: of the model
    :param replay: the replay buffer
    :param mend: sees to it that the policy's numbers are finite, or raises
    :param take_note: is told the actions, the noise, the progress remaining and the steps until now
    """

    policy: DDPGPolicy
    noise: Noise | None
    replay: Any
    mend: Callable[[], bool]
    take_note: Callable[[np.ndarray, Noise | None, float, int], None]


class RemoteHistories:
    """
    The states of recurrent networks that workers had when they acted.

    :param remote: the environments on Ray
    """

    def __init__(self, remote: RemoteEnvs):
        self.remote = remote

    def as_rows(self) -> np.ndarray:
        """:return: those of the row that was taken last, (n_envs, state_size)"""
        row = self.remote.round
        assert row is not None
        assert row.states is not None  # of a policy with a memory
        return row.states[row.step - 1]

    def go_on(self, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        """Do nothing: the workers have done it."""


class RemoteCollector(Collector):
    """
    Takes the rows of transitions that workers have made, and sends them the actor's parameters.

    :param env: the training environments, :class:`RemoteEnvs` in them
    :param observation_space: of the model
    :param vec_normalize: the ``VecNormalize`` around the environments, if there is one
    :param remote: the environments on Ray
    :param learning: what it asks of the model
    """

    def __init__(
        self, env: VecEnv, observation_space: Any, vec_normalize: VecNormalize | None, remote: RemoteEnvs, learning: Learning
    ):
        super().__init__(env, observation_space, vec_normalize)
        self.remote, self.settings, self.learning = remote, remote.settings, learning
        self.pace = Pace(self.settings.ratio, self.settings.learning_ahead)
        self._version, self._parameters = -1, None  # of those that act now, and a reference to them
        self._sent: dict[int, Moment] = {}  # versions that may still act
        self._moment = Moment(0, 0, 0, False, 0)
        self._may_update = False
        self._last: tuple[Any, Any] = (None, None)
        self._looked_at, self._seen = 0.0, self.remote.round
        self._begin_log()

    def _begin_log(self) -> None:
        self._since, self._waited, self._n_steps, self._n_made = time.perf_counter(), 0.0, 0, 0
        self._ages: list[int] = []

    @property
    def crew(self) -> Crew:
        assert self.remote.crew is not None  # after the first reset() of a training
        return self.remote.crew

    @property
    def has_begun(self) -> bool:
        """See :class:`Collector`."""
        return self.remote.has_begun

    def is_ready(self, model: dict[str, Any]) -> bool:
        """
        See :class:`Collector`. It waits, unless an update can be made in the meantime.

        :raises WorkersLost: if a worker has failed too often, once all that had arrived has been taken
        """
        self._moment, self._last = Moment.of(model), (model["_last_obs"], model["_last_original_obs"])
        if self.crew.lost is None:
            self._order()
        started = time.perf_counter()
        while not self.remote.has_row:
            if self.crew.lost is not None:
                raise self.crew.lost
            if self._may_update and self.pace.has_credit:
                return False
            self._look(PATIENCE)
        self._waited += time.perf_counter() - started
        return True

    def _order(self) -> None:
        """Send parameters, and ask for chunks, where it is time to."""
        if self.settings.is_synchronous and not self.remote.has_row:
            self._send()
            for hand in self.crew.hands:
                self._ask(hand)
        elif self._is_due():
            self._send()
        is_new = self.remote.has_row and self.remote.round is not self._seen  # whose workers have room for more
        if is_new or not self.remote.has_row or time.perf_counter() - self._looked_at >= LOOK_EVERY:
            self._seen = self.remote.round
            self._look(0.0)

    def _is_due(self) -> bool:
        """Whether the workers are to get the present parameters."""
        sent = self._sent.get(self._version)
        return sent is None or self._moment.num_timesteps - sent.num_timesteps >= self.settings.sync_every

    def _send(self) -> None:
        """Put the parameters where all workers find them, if they have changed."""
        learning = self.learning
        is_same = self._version in self._sent and self._sent[self._version].n_updates == self._moment.n_updates
        if is_same and not learning.policy.observes and self.vec_normalize is None:
            self._sent[self._version] = self._moment
            return
        learning.mend()
        self._version = self.crew.next_version()
        numbers = numbers_of(learning.policy, self.remote.stores_states)
        adapted = {} if learning.noise is None else learning.noise.adapted()
        parameters = Parameters(self._version, numbers, adapted, self.vec_normalize)  # which is pickled without environments
        self._parameters = self.crew.ray.put(parameters)
        self._sent[self._version] = self._moment

    def _look(self, timeout: float) -> None:
        """Take what has come, and ask the workers that have too little to do."""
        self.remote.put(self.crew.take(timeout))
        self._looked_at = time.perf_counter()
        if self.crew.lost is not None:
            return
        if not self.settings.is_synchronous:
            for _ in range(IN_A_LINE):
                for hand in self.crew.hands:
                    if self._may_ask(hand):
                        self._ask(hand)
        elif not self.remote.has_row:  # whoever has been started anew
            for hand in self.crew.hands:
                if not hand.n_asked and not self.remote.rounds.n_waiting(hand.index):
                    self._ask(hand)

    def _may_ask(self, hand: Hand) -> bool:
        """Whether a worker may make another chunk: within its own bound, or where others have sent too little for a round."""
        rounds, k = self.remote.rounds, self.settings.envs_per_worker
        if hand.n_asked >= min(IN_A_LINE, self.settings.collection_ahead):
            return False
        own = hand.n_asked + rounds.n_waiting(hand.index)
        return own < self.settings.collection_ahead or rounds.n_pieces + k * hand.n_asked < self.settings.n_envs

    def _ask(self, hand: Hand) -> None:
        """Ask for a chunk; where in the training its first step will be depends on what is before it."""
        before = self.settings.steps * (hand.n_asked + self.remote.rounds.n_waiting(hand.index))
        left = 0 if self.remote.round is None else self.remote.round.n_left
        moment = self._moment._replace(num_timesteps=self._moment.num_timesteps + self.settings.n_envs * (before + left))
        self.crew.ask(hand, self._parameters, Order(0, self.settings.steps, moment, self._version, self.remote.rewards))

    def step(self, env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """See :class:`Collector`."""
        new_obs, rewards, dones, infos = super().step(env, actions)
        if self.settings.is_synchronous and self.vec_normalize is not None:  # whose statistics have taken this step in
            self.remote.rewards = np.where(dones, 0, rewards)
        return new_obs, rewards, dones, infos

    def acted(self) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Collector`."""
        row = self.remote.round
        assert row is not None  # since it is ready
        if row.step == 0:
            self._begin_round(*self._last)
        scaled, moment = row.actions[row.step].copy(), self._moment
        progress = max(1.0 - moment.num_timesteps / max(moment.total_timesteps, 1), 0.0)
        self.learning.take_note(scaled, self.learning.noise, progress, moment.num_timesteps)
        self._n_steps += len(scaled)
        return self.learning.policy.unscale_action(scaled), scaled

    def _begin_round(self, last_obs: Any, last_original_obs: Any) -> None:
        row = self.remote.round
        assert row is not None
        if row.begins.any():
            self.learning.replay.interrupt(row.begins)
            seen, original = as_seen(self.env, row.observations_at(0))
            set_rows(last_obs, row.begins, seen)
            self.learning.policy.begin_episodes(row.begins)
            if self.vec_normalize is not None:
                set_rows(last_original_obs, row.begins, original)
                self.vec_normalize.returns[row.begins] = 0
        oldest = int(row.versions.min())
        self._ages += [
            self._moment.num_timesteps - self._sent[v].num_timesteps for v in row.versions.tolist() if v in self._sent
        ]
        self._sent = {
            version: moment for version, moment in self._sent.items() if version >= oldest or version == self._version
        }

    def histories(self, own: Any) -> RemoteHistories:
        """See :class:`Collector`."""
        return RemoteHistories(self.remote)

    def own(self, observations: Any) -> Any:
        """See :class:`Collector`. What :meth:`acted` corrects belongs to the model alone."""
        return each(np.array, observations)

    def updates(self, n_transitions: int, gradient_steps: int, may_update: bool) -> int:
        """See :class:`Collector`."""
        self._may_update = may_update
        if not may_update:
            return 0
        n = self.pace.updates(n_transitions, gradient_steps)
        self._n_made += n
        return n

    def statistics(self) -> dict[str, float]:
        """
        Steps and updates a second, the share of the time in which the model did not wait for transitions, how many
        environment steps before the parameters that acted were sent, environment steps that wait to be stored, workers alive,
        how often one was started anew, and how many pieces another column has taken.
        """
        seconds = max(time.perf_counter() - self._since, 1e-9)
        rounds, round_ = self.remote.rounds, self.remote.round
        waiting = rounds.n_steps + (0 if round_ is None else round_.n_left * self.settings.n_envs)
        numbers = dict(
            steps_per_s=self._n_steps / seconds, updates_per_s=self._n_made / seconds, busy=1 - self._waited / seconds,
            queue=waiting, workers_alive=0 if self.remote.crew is None else self.crew.n_alive,
            restarts=0 if self.remote.crew is None else self.crew.n_restarts, taken=rounds.n_taken,
        )  # fmt: skip
        if self._ages:
            numbers |= dict(weights_age=float(np.mean(self._ages)), weights_age_max=float(np.max(self._ages)))
        self._begin_log()
        return numbers

    def record(self, logger: Logger) -> None:
        """See :class:`Collector`."""
        for name, value in self.statistics().items():
            logger.record(f"collection/{name}", value)

    def stop(self) -> None:
        """See :class:`Collector`."""
        self.remote.stop()
