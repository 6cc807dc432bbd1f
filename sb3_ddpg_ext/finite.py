"""Networks whose numbers have become infinite or NaN: how it is noticed and said, and the way back."""

import warnings
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.policies import DDPGPolicy

ON_NAN = ["raise", "rollback"]
MAX_ROLLBACKS = 3  # to the same copy
NOT_FINITE = "has parameters that are not finite"


class LastFinite:
    """
    A copy of networks and optimisers as they were when they were last seen to be finite.

    :param policy: whose they are
    """

    def __init__(self, policy: DDPGPolicy):
        self._policy = policy
        self._tensors: dict[str, th.Tensor] = {}
        self._extra: list[tuple[th.nn.Module, Any]] = []
        self._of_optimizers: list[dict[str, Any]] = []
        self.n_updates, self.n_rollbacks = 0, 0

    def look(self, n_updates: int) -> str | None:
        """
        Copy the networks if they are finite.

        :param n_updates: made until now
        :return: the name of a network that is not finite, else None
        """
        name = self._policy.not_finite()
        if name is None:
            self._tensors = {name: tensor.detach().clone() for name, tensor in self._present_tensors()}
            self._extra = [(module, module.get_extra_state()) for module in self._policy.modules() if _has_extra_state(module)]
            self._of_optimizers = [deepcopy(optimizer.state_dict()) for optimizer in self._optimizers()]
            self.n_updates, self.n_rollbacks = n_updates, 0
        return name

    def go_back(self, trouble: str, n_updates: int, rates: tuple[Any, Any], on_nan: str) -> None:
        """
        Give networks and optimisers the values of the copy again.

        :param trouble: what is not finite
        :param n_updates: made until now
        :param rates: the learning rates of actor and critic, as a user gave them
        :param on_nan: ``"rollback"`` to go on from there, with a warning; ``"raise"`` to stop
        :raises ValueError: if it is ``"raise"``, or if this copy has led here too often
        """
        trouble += (
            f" after {n_updates} updates. Usual reasons are a learning rate that "
            f"is too high (here learning_rate={rates[0]}, qf_learning_rate={rates[1]}) and large rewards or observations; "
            "policy_kwargs=dict(normalize_observations=True, scale_returns=True) and max_grad_norm=1.0 may help"
        )
        if not self._tensors:
            raise ValueError(trouble)
        with th.no_grad():
            for name, tensor in self._present_tensors():
                tensor.copy_(self._tensors[name])
        for module, extra in self._extra:
            module.set_extra_state(extra)
        for optimizer, state in zip(self._optimizers(), self._of_optimizers, strict=True):
            optimizer.load_state_dict(deepcopy(state))
        self.n_rollbacks += 1
        back = f"The networks are again what they were after {self.n_updates} updates"
        if on_nan == "raise" or self.n_rollbacks > MAX_ROLLBACKS:
            raise ValueError(f"{trouble}. {back}")
        warnings.warn(f"{trouble}. {back}, and the training goes on (on_nan='rollback')", stacklevel=3)

    def _present_tensors(self) -> Iterator[tuple[str, th.Tensor]]:
        """The tensors that ``state_dict`` has; calling that would give the networks memory of their own."""
        return chain(self._policy.named_parameters(), self._policy.named_buffers())

    def _optimizers(self) -> list[th.optim.Optimizer]:
        return [self._policy.actor.optimizer, self._policy.critic.optimizer]


def _has_extra_state(module: th.nn.Module) -> bool:
    return type(module).get_extra_state is not th.nn.Module.get_extra_state


def are_finite(actions: np.ndarray) -> bool:
    """:param actions: of any shape"""
    return np.count_nonzero(np.isfinite(actions)) == actions.size
