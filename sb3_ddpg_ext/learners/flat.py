"""The parameters of several networks in one contiguous tensor, so that Adam and Polyak averaging are one call each."""

from collections.abc import Iterable
from operator import is_

import torch as th
from torch.nn import Parameter
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from sb3_ddpg_ext.networks import replaced_methods

ALIGNMENT = 16  # elements: a cache line of float32, where the rows of a weight begin best


class Flat:
    """
    Parameters as views of one tensor, ``values``, and their gradients of another.

    :param parameters: all of one type, on the CPU, each of them once; each ``Parameter`` stays the object it was, only its
        memory moves
    :param with_gradients: whether to give them any
    :raises ValueError: for a parameter that is there twice
    """

    def __init__(self, parameters: Iterable[Parameter], with_gradients: bool):
        self.parameters = list(parameters)
        if (n_twice := len(self.parameters) - len(set(map(id, self.parameters)))) > 0:
            raise ValueError(f"parameters={len(self.parameters)} of them must be different ones; {n_twice} are there twice")
        self.slices: list[slice] = []
        end = 0
        for parameter in self.parameters:
            self.slices.append(slice(end, end + parameter.numel()))
            end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        # With room behind it: compiled code reads the last vector of a parameter to its end.
        self.values = self.parameters[0].new_zeros(end + ALIGNMENT, requires_grad=False)
        for parameter, value in zip(self.parameters, self.views(self.values), strict=True):
            value.copy_(parameter.data)
            parameter.data = value
        if with_gradients:
            self.gradients = th.zeros_like(self.values)
            for parameter, gradient in zip(self.parameters, self.views(self.gradients), strict=True):
                parameter.grad = gradient
        self._pointers = list(map(th.Tensor.data_ptr, self.parameters))

    def views(self, flat: th.Tensor) -> list[th.Tensor]:
        """Cut ``flat``, which is laid out like ``values``, into tensors of the parameters' shapes."""
        return [flat[where].view(p.shape) for p, where in zip(self.parameters, self.slices, strict=True)]

    def holds(self) -> bool:
        """Whether the parameters still are views of ``values``; ``module.to(...)`` for example gives them new memory."""
        return list(map(th.Tensor.data_ptr, self.parameters)) == self._pointers


class FlatAdam:
    """
    ``torch.optim.Adam`` (or AdamW) over all the parameters of an optimiser in one call.

    The moments are views of two flat tensors too, and stay in ``optimizer.state``, where the optimiser itself can go on from.

    :param optimizer: see :meth:`reason_against` for what it must be
    :param flat: the memory that holds its parameters
    :param parameters: its parameters, group after group, which follow each other there
    """

    def __init__(self, optimizer: th.optim.Optimizer, flat: Flat, parameters: list[Parameter]):
        self.optimizer = optimizer
        where = {id(p): i for i, p in enumerate(flat.parameters)}
        indices = [where[id(p)] for p in parameters]
        begin, end = flat.slices[indices[0]].start, flat.slices[indices[-1]].stop
        values, gradients = flat.values[begin:end], flat.gradients[begin:end]
        averages, squares = (flat.values.new_zeros(len(values) + ALIGNMENT)[: len(values)] for _ in range(2))
        steps = th.zeros(len(parameters), dtype=th.float32)
        for i, (parameter, index) in enumerate(zip(parameters, indices, strict=True)):
            old = optimizer.state[parameter]
            inside = slice(flat.slices[index].start - begin, flat.slices[index].stop - begin)
            new = {
                "step": steps[i],
                "exp_avg": averages[inside].view(parameter.shape),
                "exp_avg_sq": squares[inside].view(parameter.shape),
            }
            for key, value in old.items():
                new[key].copy_(value)
            optimizer.state[parameter] = new
        self.values, self.gradients, self.averages, self.squares, self.steps = values, gradients, averages, squares, steps
        self._arguments: list[tuple[list[th.Tensor], ...]] = []  # of each group
        first = 0
        for group in optimizer.param_groups:
            last = first + len(group["params"]) - 1
            inside = slice(flat.slices[indices[first]].start - begin, flat.slices[indices[last]].stop - begin)
            parts = [[part[inside]] for part in (values, gradients, averages, squares)]
            self._arguments.append((*parts, [], [steps[first]]))
            first = last + 1
        self._sizes = [len(group["params"]) for group in optimizer.param_groups]
        self._parameters, self._states = parameters, [optimizer.state[parameter] for parameter in parameters]

    @staticmethod
    def reason_against(optimizer: th.optim.Optimizer, parameters: list[Parameter]) -> str | None:
        """Why one call cannot replace this optimiser of all these parameters, or None."""
        if type(optimizer) not in (th.optim.Adam, th.optim.AdamW):
            return f"the optimiser is {type(optimizer).__name__}, not Adam or AdamW"
        for group in optimizer.param_groups:
            for name in ("amsgrad", "maximize", "differentiable", "capturable"):
                if group[name]:
                    return f"the optimiser has {name}=True"
            if not group["params"]:
                return "the optimiser has a group without parameters"
        in_groups = [id(p) for group in optimizer.param_groups for p in group["params"]]
        if set(in_groups) != {id(p) for p in parameters}:
            return "the optimiser holds other parameters than the network"
        steps = {float(state["step"]) for state in optimizer.state.values() if "step" in state}
        if len(steps) > 1 or (steps and len(optimizer.state) < len(in_groups)):
            return "the optimiser has taken different numbers of steps for its parameters"
        hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
        if any((*hooks, _global_optimizer_pre_hooks, _global_optimizer_post_hooks)):
            return "the optimiser has hooks"
        if replaced := replaced_methods(optimizer):
            return f"somebody has replaced {replaced[0]} of {type(optimizer).__name__}"
        return None

    def holds(self) -> bool:
        """Whether the moments still are views made here, which ``load_state_dict`` replaces, and the step is Adam's own."""
        groups = self.optimizer.param_groups
        if [len(group["params"]) for group in groups] != self._sizes or "step" in vars(self.optimizer):
            return False
        return all(map(is_, map(self.optimizer.state.get, self._parameters), self._states))

    def step(self) -> None:
        self.steps.add_(1)
        for group, arguments in zip(self.optimizer.param_groups, self._arguments, strict=True):
            adam = th._fused_adamw_ if group["decoupled_weight_decay"] else th._fused_adam_
            beta1, beta2 = group["betas"]
            adam(
                *arguments,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
