"""Whether a class of optimisers can be used."""

from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.validation import check_kwargs, naming


def check_optimizer(policy_kwargs: dict[str, Any], device: th.device) -> None:
    """
    Make an optimiser of the parameters of a small layer, and let it take a step.

    :param policy_kwargs: the user's
    :param device: of the networks
    :raises ValueError: if that fails
    :raises TypeError: if that fails because of a type
    """
    optimizer_class = policy_kwargs.get("optimizer_class", th.optim.Adam)
    kwargs = policy_kwargs.get("optimizer_kwargs")
    check_kwargs("policy_kwargs['optimizer_kwargs']", kwargs)
    name = f"policy_kwargs['optimizer_class'] with optimizer_kwargs={kwargs!r}"
    with naming(name, optimizer_class, "a class of torch.optim, which takes steps by gradients alone, and its arguments"):
        parameters = [nn.Parameter(th.ones(shape, device=device)) for shape in ((2, 2), (2,))]
        optimizer = optimizer_class(parameters, lr=1e-3, **(kwargs or {}))
        for parameter in parameters:
            parameter.grad = th.ones_like(parameter)
        optimizer.step()
        if not all(parameter.isfinite().all() for parameter in parameters):
            raise ValueError("its first step leads to parameters that are not finite")
