"""Weight decay for a critic."""

from typing import Any

import torch as th

from sb3_ddpg_ext.networks import output_layer
from sb3_ddpg_ext.policies.critics import Critic


def optimizer_with_decay(
    critic: Critic,
    optimizer_class: type[th.optim.Optimizer],
    weight_decay: float,
    is_decoupled: bool,
    lr: float,
    kwargs: dict[str, Any],
) -> th.optim.Optimizer:
    """
    An optimiser with two groups: the weights of all layers but the output layers, and the other parameters.

    :param critic: whose parameters it takes
    :param optimizer_class: of torch
    :param weight_decay: of the first group
    :param is_decoupled: whether it is apart from the gradient
    :param lr: learning rate
    :param kwargs: further arguments of the class
    :raises ValueError: for decoupled decay with an optimiser that cannot do it, or arguments that speak of the same
    """
    if "weight_decay" in kwargs:
        raise ValueError(
            f"policy_kwargs['optimizer_kwargs']['weight_decay']={kwargs['weight_decay']!r} must be left out: "
            "critic_weight_decay is that of the critic"
        )
    if is_decoupled and optimizer_class is not th.optim.AdamW:  # which does it anyway
        if optimizer_class is not th.optim.Adam:
            raise ValueError(
                f"policy_kwargs['decoupled_weight_decay']=True is for Adam and AdamW, not {optimizer_class.__name__}"
            )
        kwargs = kwargs | {"decoupled_weight_decay": True}
    of_outputs = {output_layer(net).weight for net in critic.q_networks}
    decayed = {p: None for p in critic.parameters() if p.ndim >= 2 and p not in of_outputs}
    rest = [p for p in critic.parameters() if p not in decayed]
    groups = [dict(params=list(decayed), weight_decay=weight_decay), dict(params=rest, weight_decay=0.0)]
    return optimizer_class(groups, lr=lr, **kwargs)  # type: ignore[call-arg]
