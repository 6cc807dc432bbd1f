"""Where the time of one of our training steps goes, and how far an update is from its matrix products alone."""

import math
import re
import statistics
import time
from collections import defaultdict
from typing import Any, NamedTuple

import gymnasium as gym
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_ddpg_ext.cli.bench.peers import ModelAgent, make_agent, make_env
from sb3_ddpg_ext.cli.bench.task import Task
from sb3_ddpg_ext.cli.bench.timing import learner_name, seconds_each, warm_up

PROFILED_UPDATES = 50
MATRIX_PRODUCT = re.compile(r"::(_?addmm|mm|bmm|baddbmm|addmv|mv|dot|matmul|linear|gemm|_?mkldnn_linear|_linear_pointwise)")


class Product(NamedTuple):
    """A matrix product, (rows, inner) times (inner, columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inner * self.columns


class Stopwatch:
    """Adds up seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, owner: Any, method_name: str, phase: str) -> None:
        """From now on the calls of one object's method count for ``phase``."""
        method = getattr(owner, method_name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds[phase] += time.perf_counter() - start

        setattr(owner, method_name, timed)


def profile(task: Task) -> dict[str, Any]:
    """
    :return: microseconds of each phase of one environment step with its update, ``None`` for a phase that could not be told
        apart; milliseconds of one update; and the floor, in milliseconds and FLOP
    """
    stopwatch, env = Stopwatch(), make_env(task)
    time_environment(stopwatch, env)
    agent = make_agent(task, env)
    assert isinstance(agent, ModelAgent)
    warm_up(agent, task)
    update = seconds_each(lambda: agent.update(task.gradient_steps), task.gradient_steps, agent.wait, task.min_seconds)
    kernels = kernel_seconds(agent)
    products = update_products(
        math.prod(agent.model.observation_space.shape), math.prod(agent.model.action_space.shape), task.net, task.batch_size
    )
    floor = math.fsum(product_seconds(product, task.precision) for product in products)
    return {
        "learner": learner_name(agent),
        "phases_us": {name: s and s * 1e6 for name, s in phase_seconds(agent, task, stopwatch, kernels).items()},
        "update_ms": update * 1e3,
        "floor_ms": floor * 1e3,
        "floor_flops": sum(product.flops for product in products),
        "update_per_floor": update / floor,
    }


def time_environment(stopwatch: Stopwatch, env: gym.Env | VecEnv) -> None:
    """The environments themselves with their wrappers, without what vectorises them."""
    for single in env.envs if isinstance(env, DummyVecEnv) else [env]:
        stopwatch.time(single, "step", "environment")
        stopwatch.time(single, "reset", "environment")


def phase_seconds(agent: ModelAgent, task: Task, stopwatch: Stopwatch, kernels: dict[str, float]) -> dict[str, float | None]:
    """Seconds of each phase, for one environment step with its update."""
    model = agent.model
    stopwatch.time(model, "_sample_action", "act")  # a hook of Stable-Baselines3
    stopwatch.time(agent.buffer, "add", "store")
    stopwatch.time(agent.buffer, "sample", "sample")
    stopwatch.time(model, "train", "train")
    if learner_name(agent) == "eager":  # others have an optimiser of their own, and refuse one whose step is not torch's
        for net in (model.policy.actor, model.policy.critic):
            stopwatch.time(net.optimizer, "step", "optimiser")
    stopwatch.seconds.clear()
    total = seconds_each(lambda: agent.learn(task.steps), 1, agent.wait, 0)
    seconds = {phase: spent / task.steps for phase, spent in stopwatch.seconds.items()}
    update = seconds["train"] - seconds.get("sample", 0)
    matrices = kernels["matrix products"]
    optimiser = seconds.get("optimiser", kernels["optimiser"])
    of_update = {
        "update: matrix products": matrices,
        "update: optimiser": optimiser,
        "update: rest": update - matrices - optimiser,
    }
    if learner_name(agent) == "compiled":  # in one call, which torch's profiler does not see
        of_update = {"update": update}
    outside = sum(seconds.get(phase, 0) for phase in ("environment", "act", "store", "train"))
    return {
        "environment": seconds["environment"],
        "act": seconds.get("act"),
        "store": seconds.get("store"),
        "sample": seconds.get("sample"),
        **of_update,
        "other Python": total / task.steps - outside,
        "step": total / task.steps,
    }


def kernel_seconds(agent: ModelAgent) -> dict[str, float]:
    """Seconds of one update in matrix products and in the optimiser. Torch's profiler slows what is between the kernels."""
    with th.profiler.profile(activities=[th.profiler.ProfilerActivity.CPU]) as profiler:
        agent.update(PROFILED_UPDATES)
    seconds: dict[str, float] = defaultdict(float)
    for event in profiler.events() or ():
        seconds[kind(event)] += event.self_cpu_time_total * 1e-6 / PROFILED_UPDATES
    return seconds


def kind(event: Any) -> str:
    if MATRIX_PRODUCT.search(event.name):
        return "matrix products"
    while event is not None:
        if event.name.startswith("Optimizer.step") or "adam" in event.name:
            return "optimiser"
        event = event.cpu_parent
    return "rest"


def update_products(obs_dim: int, action_dim: int, net: list[int], batch_size: int) -> list[Product]:
    """The matrix products that one DDPG update cannot do without, for a plain MLP as actor and as critic."""
    actor = list(zip([obs_dim, *net], [*net, action_dim], strict=True))  # (inputs, outputs) of each layer
    critic = list(zip([obs_dim + action_dim, *net], [*net, 1], strict=True))
    to_actions = [(action_dim, critic[0][1]), *critic[1:]]  # the gradient stops at the actions: no columns of observations

    def forward(layers: list[tuple[int, int]]) -> list[Product]:
        return [Product(batch_size, inputs, outputs) for inputs, outputs in layers]

    def weight_gradients(layers: list[tuple[int, int]]) -> list[Product]:
        return [Product(outputs, batch_size, inputs) for inputs, outputs in layers]

    def input_gradients(layers: list[tuple[int, int]]) -> list[Product]:
        return [Product(batch_size, outputs, inputs) for inputs, outputs in layers]

    target = forward(actor) + forward(critic)
    critic_step = forward(critic) + weight_gradients(critic) + input_gradients(critic[1:])
    actor_step = (
        forward(actor) + forward(critic) + input_gradients(to_actions) + weight_gradients(actor) + input_gradients(actor[1:])
    )
    return target + critic_step + actor_step


def product_seconds(product: Product, precision: str) -> float:
    """Median seconds of one product into a given tensor, by the faster of torch's kernels that keep the precision."""
    dtype = th.bfloat16 if precision == "bf16" else th.float32
    generator = th.Generator().manual_seed(0)
    left = th.randn(product.rows, product.inner, generator=generator).to(dtype)
    right = th.randn(product.inner, product.columns, generator=generator).to(dtype)
    out = th.empty(product.rows, product.columns, dtype=dtype)
    exact, seconds = left.double() @ right.double(), []
    before = th.get_float32_matmul_precision()
    try:
        for kernel in ("highest", "medium"):  # MKL or OpenBLAS, and oneDNN, which rounds to bfloat16 on some processors
            th.set_float32_matmul_precision(kernel)
            th.mm(left, right, out=out)
            error = ((out.double() - exact).abs().max() / exact.abs().max()).item()
            if kernel == "highest" or precision == "bf16" or error < 1e-5:
                blocks = [seconds_each(lambda: th.mm(left, right, out=out), 1, lambda: None, 0.005) for _ in range(5)]
                seconds.append(statistics.median(blocks))
    finally:
        th.set_float32_matmul_precision(before)
    return min(seconds)
