"""A running average of the actor, which is steadier than the actor itself."""

from copy import deepcopy
from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.networks import Snapshot
from sb3_ddpg_ext.policies.actor import Actor


class ActorAverage:
    """
    A copy of an actor that follows it slowly: after each of its steps, average <- (1 - rate) average + rate actor, for the
    parameters and for BatchNorm's running statistics. Polyak & Juditsky (1992); for DDPG Nikishin et al. (2018), "Improving
    Stability in Deep Reinforcement Learning with Weight Averaging".

    :param actor: the network
    :param rate: share of the actor in each step of the average, in (0, 1]
    :param shared: a module inside the actor that both have in common; None for none
    """

    def __init__(self, actor: Actor, rate: float, shared: nn.Module | None = None):
        self.actor, self.rate = actor, rate
        left_out: dict[int, Any] = {id(getattr(actor, "optimizer", None)): None}
        self.network = deepcopy(actor, left_out | ({} if shared is None else {id(shared): shared}))
        own = list(self._own(self.network, shared))
        for parameter in (p for module in own for p in module.parameters(recurse=False)):
            parameter.data = parameter.data.clone()  # which may have been a part of a larger memory
            parameter.requires_grad_(False)
        for module in own:
            module.training = False
        present = list(self._own(actor, shared))
        self._averages: list[th.Tensor] = [p for module in own for p in module.parameters(recurse=False)]
        self._presents: list[th.Tensor] = [p for module in present for p in module.parameters(recurse=False)]
        self._running: list[tuple[Any, Any, str]] = [
            (average._buffers, module._buffers, name)
            for average, module in zip(own, present, strict=True)
            for name, buffer in module._buffers.items()
            if buffer is not None and buffer.is_floating_point()
        ]
        self._snapshot = Snapshot(actor)

    @staticmethod
    def _own(network: nn.Module, shared: nn.Module | None) -> list[nn.Module]:
        others = set() if shared is None else set(shared.modules())
        return [module for module in network.modules() if module not in others]

    def is_current(self) -> bool:
        """Whether the actor still has the layers of which this is the average."""
        return self._snapshot.has_the_same_parameters()

    def update(self) -> None:
        """The actor has made a step."""
        averages = self._averages + [average[name] for average, _, name in self._running]
        presents = self._presents + [present[name] for _, present, name in self._running]
        with th.no_grad():
            th._foreach_lerp_(averages, presents, self.rate)
