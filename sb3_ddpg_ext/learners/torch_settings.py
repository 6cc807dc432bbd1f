"""How torch computes during an update: threads, denormal numbers and the library of the matrix products."""

import functools
import os
import warnings
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.networks import linear_layers
from sb3_ddpg_ext.policies import DDPGPolicy

# Multiply-adds in one pass through actor and critic, above which an update uses all the threads of torch. Below, OpenMP's
# threads cost more in the worst case (a busy machine, where they wait for each other spinning) than they bring in the best.
LARGE_UPDATE = 250e6
# Multiply-adds in the largest matrix product, from which oneDNN's kernels beat MKL's: on AMD in float32, with AMX in bfloat16.
LARGE_PRODUCT = 4e6
MATMUL: Any = getattr(th.backends.mkldnn, "matmul", None)  # None before torch 2.9
TINY = np.float32(1e-40)  # denormal


def choose_n_threads(policy: DDPGPolicy, batch_size: int) -> int:
    """
    One thread for the networks that DDPG mostly has, torch's number for convolutions and for large networks.

    :param policy: its actor and critic
    :param batch_size: transitions in a minibatch
    """
    modules = [module for net in (policy.actor, policy.critic) for module in net.modules()]
    convolves = any(isinstance(module, th.nn.modules.conv._ConvNd) for module in modules)
    n_weights = sum(layer.weight.numel() for layer in linear_layers(policy.actor, policy.critic))
    return th.get_num_threads() if convolves or n_weights * batch_size > LARGE_UPDATE else 1


class Threads:
    """A context with ``n`` of torch's threads."""

    def __init__(self, n: int):
        self.n = n

    def __enter__(self) -> None:
        self._before = th.get_num_threads()
        if self._before != self.n:
            th.set_num_threads(self.n)

    def __exit__(self, *error: object) -> None:
        if self._before != self.n:
            th.set_num_threads(self._before)


class OneDNN:
    """A context that leaves matrix products to oneDNN. Several threads may be in it: torch has one setting for them all."""

    lock = Lock()
    n_inside = 0
    before = "none"

    def __enter__(self) -> None:
        with OneDNN.lock:
            if OneDNN.n_inside == 0:
                own, inherited = MATMUL.fp32_precision, th.backends.mkldnn.fp32_precision
                OneDNN.before = "none" if own == inherited else own  # "none" goes on inheriting
                MATMUL.fp32_precision = "bf16"
            OneDNN.n_inside += 1

    def __exit__(self, *error: object) -> None:
        with OneDNN.lock:
            OneDNN.n_inside -= 1
            if OneDNN.n_inside == 0:
                MATMUL.fp32_precision = OneDNN.before


class TorchSettings:
    """
    A context in which an update runs. Everything is as before after it.

    Denormal numbers are taken as zero: Adam's moments of a unit that has died decay to them, and processors by Intel then take
    a hundred times as long. No parameter changes by it, since they are far below the rounding of the smallest step.

    :param policy: the networks that are updated
    :param batch_size: transitions in a minibatch
    :param n_threads: of torch; None for :func:`choose_n_threads`
    :param precision: ``"bf16"`` rounds what large matrix products multiply to bfloat16, and sums in float32
    :param exact: SB3's floating-point operations and no others: torch's own threads if ``n_threads`` is None, torch's own
        choice of the library for matrix products
    """

    def __init__(
        self,
        policy: DDPGPolicy,
        batch_size: int,
        n_threads: int | None = None,
        precision: str = "float32",
        exact: bool = False,
    ):
        if n_threads is None:
            n_threads = th.get_num_threads() if exact else choose_n_threads(policy, batch_size)
        self.threads = Threads(n_threads)
        weights = [layer.weight.numel() for layer in linear_layers(policy.actor, policy.critic)]
        large = policy.device.type == "cpu" and batch_size * max(weights, default=0) >= LARGE_PRODUCT
        wanted = MATMUL is not None and (precision == "bf16" or (not exact and prefers_onednn()))
        self.products: OneDNN | nullcontext = OneDNN() if large and wanted else nullcontext()

    def __enter__(self) -> None:
        self.products.__enter__()
        self.threads.__enter__()
        self._flushed_before = not TINY * np.float32(1)  # torch tells nobody
        th.set_flush_denormal(True)

    def __exit__(self, *error: object) -> None:
        th.set_flush_denormal(self._flushed_before)
        self.threads.__exit__()
        self.products.__exit__(None, None, None)


@functools.cache
def cpu_info() -> str:
    """What Linux says about the first processor; "" on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return ""


def has_amx() -> bool:
    """Whether the processor multiplies matrices of bfloat16 (Intel's Xeon Scalable, since 2023), and torch can use that."""
    return MATMUL is not None and "amx_bf16" in cpu_info()


def warn_if_bf16_is_slow(precision: str, device: th.device, learner: str) -> None:
    """
    :param precision: of the updates
    :param device: of the networks
    :param learner: the name of what makes the updates
    """
    if precision == "bf16" and device.type == "cpu" and not has_amx() and learner != "compiled":
        warnings.warn(
            f"precision='bf16' brings nothing with learner={learner!r} on this processor: it needs AMX, or AVX512_BF16 of "
            "AMD's and the compiled learner",
            stacklevel=5,
        )


@functools.cache
def prefers_onednn() -> bool:
    """
    Whether to leave float32 matrix products to oneDNN: on AMD with AVX-512, where MKL, torch's default, uses AVX2.

    torch routes them there only where a lower precision is allowed. oneDNN makes no use of that permission without AMX;
    that is checked on one product.
    """
    info = cpu_info()
    if MATMUL is None or "AuthenticAMD" not in info or "avx512f" not in info or "amx" in info:
        return False
    a = th.linspace(-1, 1, 256 * 256).sin().view(256, 256)
    before, MATMUL.fp32_precision = MATMUL.fp32_precision, "bf16"
    try:
        error = ((a @ a).double() - a.double() @ a.double()).abs().max()
    finally:
        MATMUL.fp32_precision = before
    return bool(error < 1e-4)


def warn_if_oversubscribed(n_threads: int) -> bool:
    """Warn, and return True, if an update of several threads shares the machine with more work than it has cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_threads == 1 or not hasattr(os, "getloadavg") or os.getloadavg()[0] <= cores + 0.5:
        return False
    warnings.warn(
        f"each update uses n_threads={n_threads}, but {os.getloadavg()[0]:.1f} threads want this machine's {cores} cores. "
        "torch's threads then wait for each other, which can make an update ten times slower: n_threads=1 avoids it.",
        stacklevel=2,
    )
    return True
