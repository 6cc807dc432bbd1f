"""The structures of ``source/*.h``, field by field."""

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int, c_long, c_void_p
from typing import Any

MAX_LAYERS, MAX_CRITICS, MAX_GROUPS = 16, 16, 4
TYPE_NAMES = {"torch.float32": "float", "torch.float64": "double"}  # which the libraries are built for
OF_BATCH = ("observations", "actions", "next_observations", "rewards", "dones", "discounts")
OF_LAYER = ("weight", "bias", "norm_weight", "norm_bias", "running_mean", "running_variance", "n_batches")
ACTIVATIONS = {"ReLU": 1, "Tanh": 2, "ELU": 3, "SiLU": 4, "Mish": 5}


class Layer(ctypes.Structure):
    """network.h"""

    _fields_ = [
        *((name, c_void_p) for name in OF_LAYER),
        *((name, c_long) for name in ("n_in", "n_out", "n_normed")),
        ("activation", c_int), ("alpha", c_double), ("epsilon", c_double), ("momentum", c_double), ("penalty", c_double),
        *((name, c_void_p) for name in ("outputs", "before", "standardised", "mean", "rstd", "gradient", "norm_gradient",
                                        "gradient_sum", "product_sum", "rows")),
        ("row", c_long), ("in_pairs", c_int),
        *((name, c_void_p) for name in ("weight_pairs", "weight_columns", "input_pairs", "gradient_pairs", "gradient_columns",
                                        "output_columns")),
    ]  # fmt: skip


class Network(ctypes.Structure):
    """network.h"""

    _fields_ = [("n_layers", c_int), ("of_batch", c_int), ("layers", Layer * MAX_LAYERS)]


class Acting(ctypes.Structure):
    """act.h"""

    _fields_ = [
        ("network", Network), *((name, c_void_p) for name in ("observations", "memory", "actions")), ("half", c_long),
        *((name, c_void_p) for name in ("low", "high", "half_range")),
    ]  # fmt: skip


class Group(ctypes.Structure):
    """adam.h"""

    _fields_ = [*((name, c_double) for name in ("lr", "beta1", "beta2", "epsilon", "weight_decay")), ("is_decoupled", c_int)]


class Adam(ctypes.Structure):
    """adam.h"""

    _fields_ = [
        *((name, c_void_p) for name in ("values", "gradients", "averages", "squares", "steps")),
        ("n_steps", c_long), ("groups", Group * MAX_GROUPS),
    ]  # fmt: skip


class Side(ctypes.Structure):
    """update.c"""

    _fields_ = [("adam", Adam), ("pieces", c_void_p), ("n_pieces", c_long)]


class Step(ctypes.Structure):
    """update.c"""

    _fields_ = [
        *((name, c_void_p) for name in (*OF_BATCH, "weights", "smoothing", "atoms")),
        *((f"{name}_row", c_long) for name in OF_BATCH),
        *((name, c_double) for name in ("tau", "largest_norm", "lowest", "highest", "reward_factor", "action_l2",
                                        "lowest_atom", "atoms_per_return")),
        *((name, c_int) for name in ("loss", "backup", "objective", "updates_actor", "updates_targets", "n_threads")),
        ("errors", c_void_p), ("critic_loss", c_double), ("actor_loss", c_double),
    ]  # fmt: skip


class Pass(ctypes.Structure):
    """update.c"""

    _fields_ = [("network", c_void_p), ("x", c_void_p), ("n_parts", c_long), ("at", c_int)]


class Plan(ctypes.Structure):
    """update.c"""

    _fields_ = [
        ("actor", Network), ("actor_target", Network), ("critics", Network * MAX_CRITICS),
        ("critics_target", Network * MAX_CRITICS), ("of_actor", Side), ("of_critics", Side),
        ("actor_groups", c_int * 4 * MAX_LAYERS), ("critic_groups", c_int * 4 * MAX_LAYERS * MAX_CRITICS),
        ("n_critics", c_int), ("is_joint", c_int), ("targets_of_batch", c_int),
        ("n", c_long), ("n_obs", c_long), ("n_actions", c_long), ("width", c_long),
        ("n_blocks", c_long), ("x_row", c_long),
        *((name, c_void_p) for name in ("x", "columns", "next_columns", "losses", "targets", "memory", "step", "side")),
        ("pass", Pass),
    ]  # fmt: skip


def describe(network: Network, layers: Sequence[Any]) -> None:
    """
    :param network: what is filled in
    :param layers: of Linear, LayerNorm or BatchNorm or None, and activation or None, whose parameters are pointed to; the
        first may have no Linear
    """
    network.n_layers = len(layers)
    for own, (linear, norm, activation) in zip(network.layers, layers, strict=False):
        if linear is not None:
            own.weight, own.bias = linear.weight.data_ptr(), linear.bias.data_ptr()
            own.n_out, own.n_in = linear.weight.shape
        else:
            own.n_out = own.n_in = layers[1].linear.weight.shape[1]
        own.activation = 0 if activation is None else ACTIVATIONS[type(activation).__name__]
        own.alpha = getattr(activation, "alpha", 0)
        if norm is not None:
            own.norm_weight, own.norm_bias, own.epsilon = norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps
            own.n_normed = len(norm.weight)
        if getattr(norm, "running_mean", None) is not None:
            own.running_mean, own.running_variance = norm.running_mean.data_ptr(), norm.running_var.data_ptr()
            own.n_batches = norm.num_batches_tracked.data_ptr()
            own.momentum = momentum_of(norm)


def momentum_of(norm: Any) -> float:
    """Of BatchNorm's running statistics; negative for the mean over all batches."""
    return -1.0 if norm.momentum is None else norm.momentum
