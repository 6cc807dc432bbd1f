"""Acting with a plain actor in few calls, where the general way spends most of its time around them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext.networks import Normalised, NotPlain, Snapshot, plain_layers
from sb3_ddpg_ext.policies.actor import Actor

IN_PLACE: dict[type[nn.Module], Callable[[th.Tensor], th.Tensor]] = {nn.ReLU: th.relu_, nn.Tanh: th.tanh_}


class PlainActor:
    """
    mu(s) of SB3's ``Actor``, bit for bit, for observations that need no preprocessing.

    It reads the parameters where the modules hold them, at each call.

    :param actor: a plain multilayer perceptron
    :raises NotPlain: if calling it involves more than its layers
    """

    def __init__(self, actor: Actor):
        extractor = actor.features_extractor
        self.normaliser: Any = None
        if type(extractor) is Normalised:
            extractor, self.normaliser = extractor.extractor, extractor.normaliser
        if type(actor) is not Actor or type(extractor) is not FlattenExtractor:
            raise NotPlain(f"{type(actor).__name__} with {type(extractor).__name__}")
        space = actor.observation_space
        if not isinstance(space, spaces.Box) or (actor.normalize_images and is_image_space(space)):
            raise NotPlain(f"observations are preprocessed: {space}")
        if any("forward" in module.__dict__ for module in actor.modules()):
            raise NotPlain("somebody has replaced forward()")
        self.obs_shape = space.shape
        self.actor = actor
        self.steps = [
            (layer.linear._parameters, layer.norm, layer.activation and IN_PLACE.get(type(layer.activation), layer.activation))
            for layer in plain_layers(actor.mu)
        ]
        self.snapshot = Snapshot(actor)
        if not self.snapshot.is_current():
            raise NotPlain("its modules have hooks")

    def is_current(self, actor: Actor) -> bool:
        """Whether the actor still is the one this was made of."""
        return actor is self.actor and "forward" not in actor.__dict__ and self.snapshot.is_current()

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """From observations (n, ...) to actions (n, action_dim) on the [-1, 1] scale."""
        if not (observations.flags.c_contiguous and observations.flags.writeable):  # which torch asks for
            observations = np.array(observations)
        alone = len(observations) == 1  # a vector then: the same numbers from fewer calls
        with th.inference_mode():
            x = th.from_numpy(observations[0] if alone else observations)
            bias: Any
            weight: Any = self.steps[0][0]["weight"]
            if x.dtype is not weight.dtype or not weight.is_cpu:
                x = x.to(weight.device, weight.dtype)
            if self.normaliser is not None:
                x = self.normaliser(x)
            if len(self.obs_shape) != 1:
                x = x.flatten(0 if alone else 1)
            for parameters, norm, activation in self.steps:
                weight, bias = parameters["weight"], parameters["bias"]  # never None: see plain_layers
                x = th.addmv(bias, weight, x) if alone else F.linear(x, weight, bias)
                if norm is not None:
                    x = norm(x)
                if activation is not None:
                    x = activation(x)
            actions = x.numpy() if x.is_cpu else x.cpu().numpy()
            return actions[None] if alone else actions
