"""Networks whose memory is shared with other networks, and how they are saved."""

from typing import Any

import torch as th
from torch import nn


class SavedAlone(nn.Module):
    """
    A network that is pickled, copied or saved without memory that it shares with others.

    A learner may have laid its parameters and its optimiser's moments into one tensor with those of other networks, and a
    pickled view brings the whole of it. They get memory of their own first; the learner notices and lays them anew.
    """

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        give_own_memory(self)
        return super().state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        give_own_memory(self)
        return self.__dict__


def give_own_memory(network: nn.Module) -> None:
    """:param network: whose parameters, and the state of its ``optimizer``, may be views of larger tensors"""
    for parameter in network.parameters():
        if _is_part(parameter):
            parameter.data = parameter.data.clone()
            parameter.grad = None if parameter.grad is None else parameter.grad.clone()
    optimizer = network.__dict__.get("optimizer")
    for parameter, state in list(getattr(optimizer, "state", {}).items()):
        if any(th.is_tensor(value) and _is_part(value) for value in state.values()):
            own = {name: value.clone() if th.is_tensor(value) else value for name, value in state.items()}
            optimizer.state[parameter] = own  # type: ignore[union-attr]  # another object, by which a learner sees it


def _is_part(tensor: th.Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
