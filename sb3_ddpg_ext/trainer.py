"""Updates by a learner, and what is known of them: losses, diagnostics, errors for priorities."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from sb3_ddpg_ext.diagnostics import Diagnostics
from sb3_ddpg_ext.finite import LastFinite
from sb3_ddpg_ext.learners import (
    Learner,
    LossLog,
    TorchSettings,
    UpdateSettings,
    choose_learner,
    warn_if_bf16_is_slow,
    warn_if_oversubscribed,
)
from sb3_ddpg_ext.learners.base import AUTO
from sb3_ddpg_ext.noise.base import PerturbedActor
from sb3_ddpg_ext.policies import DDPGPolicy

Draw = Callable[[int], Any]  # from a number to a batch of so many transitions or sequences
Tell = Callable[[np.ndarray, Any], None]  # takes indices of a batch and the critic's errors there


class Trainer:
    """
    Makes updates with the learner that suits a policy.

    :param policy: what is trained
    :param n_threads: of torch; None for what suits the networks
    """

    def __init__(self, policy: DDPGPolicy, n_threads: int | None = None):
        self.policy, self.n_threads = policy, n_threads
        self.learner: Learner | None = None
        self.learner_name = ""  # its kind, or the name of its class
        self.losses, self.diagnostics, self.last_finite = LossLog(), Diagnostics(), LastFinite(policy)
        self._measured: dict[str, float] = {}  # by the diagnostics since the last log
        self._is_exact = False  # whether to use SB3's floating-point operations and no others
        self._torch_settings: dict[tuple, TorchSettings] = {}
        self._has_warned = False

    def choose(self, spec: Any, settings: UpdateSettings, verbose: int = 0, must_train: bool = True) -> None:
        """
        Choose the learner anew, for the policy as it is now. What has been learnt stays in the policy.

        :param spec: ``"auto"``, the name of a learner, or a class
        :param settings: of the updates
        :param verbose: above 0, print which one it is where it changes
        :param must_train: whether it is an error if the learner that was asked for cannot train the policy; else a warning
        """
        try:
            choice = choose_learner(spec, self.policy, settings)
        except ValueError as error:
            if must_train:
                raise
            warnings.warn(f"{error}. It can predict; to train it, load it with another learner", stacklevel=4)
            spec = AUTO
            choice = choose_learner(spec, self.policy, settings)
        if self.learner_name != choice.name:
            warn_if_bf16_is_slow(settings.precision, self.policy.device, choice.name)
        if verbose > 0 and self.learner_name != choice.name:
            names: dict[str, list[str]] = {}
            for name, reason in choice.reasons.items():
                names.setdefault(reason, []).append(name)
            print(f"Learner: {choice.name}", *(f"({' and '.join(own)} not: {reason})" for reason, own in names.items()))
        before = self.learner if self.learner_name == choice.name else None
        self.learner, self.learner_name = choice.make(self.policy, settings), choice.name
        self.learner.n_threads = self.n_threads
        if before is not None:
            self.learner.restore(before.state())
        self._is_exact = choice.name == "eager" and spec != AUTO
        self.policy.acts_exactly = choice.name == "eager"
        self._torch_settings = {}

    def begin_training(self, n_updates: int) -> None:
        """
        Let a warning be given once more, and copy the networks.

        :param n_updates: made until now
        """
        self._has_warned = False
        self.last_finite.look(n_updates)

    def torch_settings(self, batch_size: int) -> TorchSettings:
        """
        The settings of torch for updates. Acting uses their threads.

        :param batch_size: transitions in a minibatch
        """
        precision = "float32" if self.learner is None else self.learner.settings.precision
        n_threads = 1 if self.learner is not None and self.learner.has_own_threads else self.n_threads
        key = (batch_size, n_threads, precision, self._is_exact, th.get_num_threads())
        if key not in self._torch_settings:
            self._torch_settings[key] = TorchSettings(self.policy, *key[:-1])
        return self._torch_settings[key]

    @property
    def needs_modes(self) -> bool:
        """Whether the networks may behave differently in training and evaluation."""
        return self.learner is None or self.learner.needs_modes

    def train(
        self, n_updates: int, gradient_steps: int, batch_size: int, draw: Draw, tell: Tell, perturbed: PerturbedActor | None
    ) -> None:
        """
        :param n_updates: made until now
        :param gradient_steps: number of updates
        :param batch_size: transitions, or sequences, in each minibatch
        :param draw: gives a minibatch
        :param tell: is told the critic's errors, where the minibatch asks for them
        :param perturbed: a perturbed actor that may adapt to the updates; None for none
        """
        learner = self.learner
        assert learner is not None
        if learner.needs_modes:
            self.policy.set_training_mode(True)
        learner.n_updates = n_updates
        with self.torch_settings(batch_size):
            for n in range(n_updates + 1, n_updates + gradient_steps + 1):
                batch = draw(batch_size)
                self.losses.add(learner.update(batch))
                if learner.updates_actor:
                    self.policy.average_actor()
                if batch.indices is not None:
                    tell(batch.indices, learner.errors)
                if perturbed is not None:
                    perturbed.after_update(n, self.policy, batch.observations)

    def diagnose(self, n_updates: int, batch_size: int, draw: Draw, size: int) -> None:
        """
        Look at actor and critic for the log and the warning; see :mod:`sb3_ddpg_ext.diagnostics`.

        :param n_updates: made until now
        :param batch_size: the largest minibatch that may be drawn
        :param draw: gives one
        :param size: of the replay buffer
        """
        with self.torch_settings(batch_size).threads:
            at_most = lambda n: draw(min(n, batch_size))  # noqa: E731
            self._measured |= self.diagnostics.measure(self.policy, at_most, size, n_updates)

    def record(self, logger: Logger, n_updates: int) -> None:
        """
        Put what there is since the last time into a logger, under ``train/``.

        :param logger: always the same one
        :param n_updates: made until now
        """
        if not self.losses.record(logger):
            return
        logger.record("train/n_updates", n_updates, exclude="tensorboard")
        logger.record("train/learning_rate", self.policy.actor.optimizer.param_groups[0]["lr"])
        logger.record("train/qf_learning_rate", self.policy.critic.optimizer.param_groups[0]["lr"])
        for name, value in self._measured.items():
            logger.record(f"train/{name}", value)
        self._measured = {}

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes, for a training that goes on from a checkpoint."""
        learner = {} if self.learner is None else {self.learner_name: self.learner.state()}
        parts = dict(losses=self.losses.state(), diagnostics=self.diagnostics.state())
        return parts | dict(measured=dict(self._measured), learner=learner)

    def restore(self, state: dict[str, Any]) -> None:
        """:param state: of :meth:`state`"""
        self.losses.restore(state["losses"], self.policy.device)
        self.diagnostics.restore(state["diagnostics"], self.policy.device)
        self._measured = state["measured"]
        own = state.get("learner", {}).get(self.learner_name)  # none in older files, or of another kind
        if self.learner is not None and own is not None:
            self.learner.restore(own)

    def warn_if_oversubscribed(self, batch_size: int) -> None:
        """
        Warn, once in a training, where the threads of an update have too few cores.

        :param batch_size: transitions in a minibatch
        """
        if not self._has_warned:
            self._has_warned = warn_if_oversubscribed(self.torch_settings(batch_size).threads.n)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the learner out of pickles and copies: its memory is made anew when the model is trained."""
        return self.__dict__ | {"learner": None, "_torch_settings": {}}
