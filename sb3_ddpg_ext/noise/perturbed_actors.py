"""Several copies of an actor with different parameters, evaluated together."""

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from sb3_ddpg_ext.networks import Layer, is_norm, normed_layers, statistics_of
from sb3_ddpg_ext.observations import each

if TYPE_CHECKING:
    from sb3_ddpg_ext.policies import DDPGPolicy
    from sb3_ddpg_ext.policies.acting import PlainActor


class PerturbedActors:
    """
    Copies of a policy's actor whose parameters lie side by side in one tensor, ``copies``, of shape (n, parameters).

    A row begins with the parameters that may be perturbed, and ends with those of the normalisation layers. Matrices lie
    transposed, the layout in which products of n vectors with n matrices are the fastest.

    :param policy: whose actor is copied
    :param n: number of copies
    :raises ValueError: if the policy takes its actions from something else than its actor
    """

    def __init__(self, policy: "DDPGPolicy", n: int):
        if not policy.acts_by_its_actor():
            raise ValueError(
                f"action_noise in the parameters: {type(policy).__name__} has a forward() or _predict() of its own, "
                "which perturbed copies of its actor would leave out"
            )
        self.policy, self.actor, self.n = policy, policy.actor, n
        own, norms = _names(policy.actor)
        self.names = own + norms
        parameters = self._parameters()
        sizes = [parameter.numel() for parameter in parameters]
        self.n_perturbed = sum(sizes[: len(own)])
        self.copies = parameters[0].new_empty(n, sum(sizes), requires_grad=False)
        self.views: dict[str, th.Tensor] = {}
        for name, parameter, part in zip(self.names, parameters, self.copies.split(sizes, dim=1), strict=True):
            shape = parameter.shape
            self.views[name] = part.view(n, shape[1], shape[0]).mT if len(shape) == 2 else part.view(n, *shape)
        self.plain = policy.plain_actor()
        self._layers = [] if self.plain is None else self._plain_layers()
        self._single = {name: view[0] for name, view in self.views.items()}
        self._together = vmap(self._call, randomness="different")
        self._is_batched = n > 1

    def is_current(self, policy: "DDPGPolicy") -> bool:
        """Whether the policy's actor still is what this was made of."""
        return policy is self.policy and policy.actor is self.actor and policy.plain_actor() is self.plain

    def take(self, copies: np.ndarray | th.Tensor | None) -> bool:
        """Take over what another stack held, if it fits; return whether it did."""
        if copies is None or tuple(copies.shape) != tuple(self.copies.shape):
            return False
        self.copies.copy_(th.as_tensor(copies))
        return True

    def perturb(self, i: int, noise: np.ndarray) -> None:
        """Make copy ``i`` of the actor's present parameters, and add noise, of shape (n_perturbed,) or (1,)."""
        with th.no_grad():
            values = [p.mT.reshape(-1) if p.ndim == 2 else p.reshape(-1) for p in self._parameters()]
            row = self.copies[i]
            th.cat(values, out=row)
            row[: self.n_perturbed] += th.from_numpy(noise).to(row)

    def __call__(self, observations: Any) -> np.ndarray:
        """From n observations, one for each copy, to their n actions on the [-1, 1] scale."""
        with th.inference_mode():
            if self.plain is not None and type(observations) in (np.ndarray, dict):
                return self._plain(self.plain, observations)
            obs, _ = self.policy.obs_to_tensor(observations)
            batches_of_one = each(lambda part: part[:, None], obs)
            return self._general(batches_of_one)[:, 0].cpu().numpy()

    def on_batch(self, observations: Any) -> th.Tensor:
        """The actions of the first copy for a batch of observations."""
        return self._call(self._single, observations)

    def _call(self, parameters: dict[str, th.Tensor], observations: Any) -> th.Tensor:
        return functional_call(self.actor, parameters, (observations,))

    def _general(self, observations: Any) -> th.Tensor:
        """All copies at once, or, where the actor has what cannot be batched (a GRU, a hook that leaves torch), in turn."""
        if self._is_batched:
            try:
                return self._together(self.views, observations)
            except RuntimeError:
                self._is_batched = False
        in_turn = []
        for i in range(self.n):
            own = each(operator.itemgetter(i), observations)
            in_turn.append(self._call({name: view[i] for name, view in self.views.items()}, own))
        return th.stack(in_turn)

    def _parameters(self) -> list[nn.Parameter]:
        parameters = dict(self.actor.named_parameters())
        return [parameters[name] for name in self.names]

    def _plain_layers(self) -> list[tuple]:
        views = {id(parameter): self.views[name] for name, parameter in self.actor.named_parameters()}
        layers = []
        for layer in normed_layers(self.actor.mu):
            weight, *vectors = [None if p is None else views[id(p)] for p in layer.parameters()]
            bias, *affine = [None if vector is None else vector[:, None] for vector in vectors]
            layers.append((None if weight is None else weight.mT, bias, layer, affine))
        return layers

    def _plain(self, plain: "PlainActor", observations: Any) -> np.ndarray:
        x = plain.features(observations, self.copies).view(self.n, 1, -1)
        for weight, bias, layer, (scale, shift) in self._layers:
            if weight is not None:
                x = th.baddbmm(bias, x, weight)  # (n, 1, outputs)
            if layer.norm is not None:
                x = _standardised(layer, x) * scale + shift
            if layer.activation is not None:
                x = layer.activation(x)
        return x[:, 0].cpu().numpy()


def _standardised(layer: Layer, x: th.Tensor) -> th.Tensor:
    """By LayerNorm or, as in evaluation, by BatchNorm's running statistics."""
    if not (statistics := statistics_of(layer)):
        return F.layer_norm(x, x.shape[-1:], eps=layer.norm.eps)
    mean, variance, _ = statistics
    return (x - mean) / (variance + layer.norm.eps).sqrt()


def _names(actor: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the parameters, in order: those of all layers but normalisation, and those of normalisation layers."""
    norms = {
        f"{prefix}.{name}"
        for prefix, module in actor.named_modules()
        if is_norm(module)
        for name, _ in module.named_parameters(recurse=False)
    }
    names = [name for name, _ in actor.named_parameters()]
    return [name for name in names if name not in norms], [name for name in names if name in norms]
