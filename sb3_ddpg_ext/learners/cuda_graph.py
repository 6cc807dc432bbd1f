"""The eager update, recorded once as a CUDA graph and replayed with one launch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners.base import LEARNERS, PolicyTensors, UpdateSettings
from sb3_ddpg_ext.learners.eager import EagerLearner
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.policies import DDPGPolicy

N_WARM_UP = 3  # updates of each kind, before what they allocate and choose has settled enough to be recorded
Losses = dict[str, th.Tensor]
Results = tuple[Losses, th.Tensor | None]  # with the errors, for priorities


@LEARNERS.register("cuda_graph")
class CudaGraphLearner(EagerLearner):
    """
    :class:`EagerLearner` on a GPU, without the time that Python takes to launch some two hundred kernels.

    The first updates are made by :class:`EagerLearner` itself. Then one is recorded for each kind of update: with the actor or
    without (``policy_delay``), and for each shape of the batch. A batch is copied to where the recorded kernels read it.
    """

    def __init__(self, policy: DDPGPolicy, settings: UpdateSettings | None = None):
        super().__init__(policy, settings)
        self.optimizers = (policy.actor.optimizer, policy.critic.optimizer)
        self.learning_rates: list[th.Tensor] = []  # of each parameter group
        self.recorded: dict[Any, tuple[Batch, Callable[[], Results]]] = {}
        self.n_warmed_up: dict[Any, int] = {}
        self.memory: list[int] = []

    @classmethod
    def reason_against(cls, policy: DDPGPolicy, settings: UpdateSettings) -> str | None:
        if policy.device.type != "cuda":
            return f"the model is on {policy.device}, not on a GPU"
        if type(policy).unrolled is not DDPGPolicy.unrolled:
            return "the number of steps in a batch of sequences varies"
        for net in (policy.actor, policy.critic):
            if "capturable" not in net.optimizer.param_groups[0]:
                return f"{type(net.optimizer).__name__} cannot be recorded"
            if any(type(module).__name__ == "BatchRenorm1d" for module in net.modules()):
                return "BatchRenorm1d looks at the number of its updates on the processor"
        return None

    def update(self, batch: Batch) -> Losses:  # type: ignore[override]  # sequences are for a policy that it refuses
        if not self.tensors.are_current():
            self.tensors = PolicyTensors(self.policy)
            self.recorded.clear()
        memory = self._memory()
        if memory != self.memory:  # what was recorded writes to the old one
            self.memory = memory
            self.recorded.clear()
        kind = self._kind(batch)
        if self.n_warmed_up.get(kind, 0) < N_WARM_UP:
            self.n_warmed_up[kind] = self.n_warmed_up.get(kind, 0) + 1
            with self._capturable(), self._side_stream():
                return super().update(batch)
        if kind not in self.recorded:
            inputs = Batch(*(_map(th.clone, part) for part in batch))
            with self._capturable():
                n_updates = self.n_updates
                self.recorded[kind] = (inputs, self._record(lambda: self._update(inputs)))
                self.n_updates = n_updates
        inputs, replay = self.recorded[kind]
        for mine, given in zip(inputs, batch, strict=True):
            _copy(mine, given)
        for learning_rate, group in zip(self.learning_rates, self._groups(), strict=True):
            learning_rate.fill_(group["lr"])
        losses, errors = replay()
        self.errors = None if errors is None else errors.clone()
        self.n_updates += 1
        return {name: loss.clone() for name, loss in losses.items()}

    def _update(self, batch: Batch) -> tuple[Losses, th.Tensor | None]:
        losses = super().update(batch)
        return losses, self.errors

    def _kind(self, batch: Batch) -> tuple[Any, ...]:
        """All that makes the sequence of kernels, or their constants, differ from update to update."""
        interval = self.settings.target_update_interval or self.settings.policy_delay
        parts = tuple((self.n_updates + 1) % every == 0 for every in (self.settings.policy_delay, interval))
        options = tuple(
            str(value) for group in self._groups() for name, value in group.items() if name not in ("params", "lr")
        )
        learning = tuple(parameter.requires_grad for parameter in self.tensors.all_parameters)
        priorities = (batch.weights is None, batch.indices is None, batch.n_demonstrations)
        return (parts, len(batch.rewards), self.settings, options, learning, priorities)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _memory(self) -> list[int]:
        """Where the parameters, the buffers and the moments lie."""
        states = [state for optimizer in self.optimizers for state in optimizer.state.values()]
        moments = [value for state in states for value in state.values() if th.is_tensor(value)]
        own = (*self.tensors.all_parameters, *self.tensors.target_parameters, *self.tensors.all_buffers)
        return [tensor.data_ptr() for tensor in (*own, *moments)]

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Let the optimisers read their learning rates, and count their steps, on the device."""
        groups = self._groups()
        if len(self.learning_rates) != len(groups):
            self.learning_rates = [self.tensors.all_parameters[0].new_zeros(()).detach() for _ in groups]
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group, learning_rate in zip(groups, self.learning_rates, strict=True):
            group["lr"], group["capturable"] = learning_rate.fill_(group["lr"]), self.policy.device.type == "cuda"
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                if state["step"].device != self.policy.device:
                    state["step"] = state["step"].to(self.policy.device)
        try:
            yield
        finally:
            for group, (learning_rate, capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = learning_rate, capturable

    @contextmanager
    def _side_stream(self) -> Iterator[None]:
        stream = th.cuda.Stream()
        stream.wait_stream(th.cuda.current_stream())
        with th.cuda.stream(stream):
            yield
        th.cuda.current_stream().wait_stream(stream)

    def _record(self, update: Callable[[], Results]) -> Callable[[], Results]:
        """Record the kernels of ``update``; the function returned launches them, and gives where the results will be."""
        graph = th.cuda.CUDAGraph()
        with th.cuda.graph(graph):
            results = update()

        def replay() -> Results:
            graph.replay()
            return results

        return replay


def _map(function: Callable[[th.Tensor], th.Tensor], part: Any) -> Any:
    """Apply ``function`` to a tensor, or to each tensor of a dict. Anything else stays as it is."""
    return each(lambda value: function(value) if th.is_tensor(value) else value, part)


def _copy(into: Any, part: Any) -> None:
    each(lambda mine, value: th.is_tensor(value) and mine.copy_(value, non_blocking=True), into, part)
