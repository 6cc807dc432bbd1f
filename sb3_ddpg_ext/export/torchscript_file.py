"""TorchScript files: the model's own modules, traced, whatever they are."""

import copy
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.export.source import Part, Source
from sb3_ddpg_ext.runtime import MEMBER, Actor, Arrays, check_format

N_TRACED = 3  # observations to trace with


def write(source: Source, about: dict[str, Any]) -> bytes:
    """
    :param source: what is exported
    :param about: its description
    :return: the content of the file
    """
    acting, inputs = Acting(source), examples(about)

    def act(*inputs: th.Tensor) -> tuple[th.Tensor, ...]:
        return acting(*inputs)

    with warnings.catch_warnings(), th.no_grad():
        warnings.simplefilter("ignore")  # that TorchScript is old, and that sizes in checks become constants
        script = th.jit.trace(act, inputs, check_trace=False)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        th.jit.save(script, stream, _extra_files={MEMBER: json.dumps(about)})
    return stream.getvalue()


def examples(about: dict[str, Any]) -> tuple[th.Tensor, ...]:
    """Inputs of zeros: observations, states, and the previous reward where there is one."""
    shapes = [([N_TRACED, *one["shape"]], one["dtype"]) for one in about["observation"]]
    shapes += [([N_TRACED if size is None else size for size in one["shape"]], "float32") for one in about["state"]]
    shapes += [([N_TRACED, 1], "float32")] if about["previous_reward"] else []
    return tuple(th.from_numpy(np.zeros(shape, dtype)) for shape, dtype in shapes)


class Acting:
    """
    From inputs to outputs, as a function of tensors; its constants become those of the file.

    :param source: what is exported
    """

    def __init__(self, source: Source):
        self.policy = copy.deepcopy(source.model.policy).cpu().requires_grad_(False)
        self.policy.set_training_mode(False)
        self.source, space = source, source.action_space
        half = 0.5 * (space.high - space.low)
        self.low, self.high, self.half = (th.from_numpy(np.array(one)) for one in (space.low, space.high, half))

    def __call__(self, *inputs: th.Tensor) -> tuple[th.Tensor, ...]:
        parts = self.source.parts
        observed = {part.key: self.observed(part, x) for part, x in zip(parts, inputs, strict=False)}
        scaled, states = self.act(observed.get(None, observed), list(inputs[len(parts) :]))
        actions = (scaled.reshape(-1, *self.low.shape) + 1).to(self.low.dtype) * self.half + self.low
        return th.minimum(th.maximum(actions, self.low), self.high), *states

    def observed(self, part: Part, x: th.Tensor) -> th.Tensor:
        """What the model is given."""
        if part.channels_last:
            x = x.permute(0, 3, 1, 2)
        if part.statistics is None:
            return x
        mean, std = th.from_numpy(np.array(part.statistics.mean)), th.from_numpy(np.array(part.statistics.std))
        return ((x.double() - mean) / std).clamp(-part.statistics.clip, part.statistics.clip).float()

    def act(self, observations: Any, others: list[th.Tensor]) -> tuple[th.Tensor, list[th.Tensor]]:
        """The action on the [-1, 1] scale, and the states after it."""
        if not self.source.has_memory:
            return self.policy(observations, deterministic=True), []
        reward = others.pop() if self.source.takes_reward else th.zeros(len(others[-1][0]), 1)
        *state, action = others
        scaled, (after,) = self.policy.step(observations, action[0], reward, [tuple(state)])
        return scaled, [*after, scaled[None]]


class TorchScriptActor(Actor):
    """
    Acts by torch, which need not know the classes that the model is made of.

    :param path: of the file
    """

    def __init__(self, path: str | Path):
        extra = {MEMBER: ""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.script = th.jit.load(str(path), map_location="cpu", _extra_files=extra)
        super().__init__(check_format(path, json.loads(extra[MEMBER] or "{}")))

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        with th.inference_mode():
            outputs = self.script(*map(as_tensor, inputs.values()))
        return [output.numpy() for output in outputs]


def as_tensor(array: np.ndarray) -> th.Tensor:
    return th.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else np.array(array))


load = TorchScriptActor
