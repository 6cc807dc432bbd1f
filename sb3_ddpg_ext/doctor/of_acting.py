"""Checks of what a model does in its environment: its actions, its networks, its Q."""

from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_ddpg_ext.diagnostics import CONSTANT, PATIENCE
from sb3_ddpg_ext.doctor.check import register
from sb3_ddpg_ext.doctor.episodes import Episodes

# An actor may be constant for some thousand updates and come back, as on Hopper and MountainCarContinuous, while tanh is not
# flat in a part of its states. At abs(a) above FLAT its derivative is below 2e-6: nothing is learnt there.
FLAT, MOST_FLAT = 1 - 1e-6, 0.95
FEWEST_STATES = 100
INITIAL_ERROR = 1.0  # of Q, which may outlast returns that are smaller
MOST_DEAD = 0.95  # of a layer's units; new layers and trained ones have less than half

stuck = register(
    "stuck-actor",
    "The actor gives the same action at a bound, whatever it sees. Tanh is flat there, so that nothing is learnt any more. "
    "Observations or rewards of a large scale are the usual reason, then a learning rate that is too high. An action that "
    "changes between the bounds from state to state is not meant.",
    "policy_kwargs=dict(normalize_observations=True), or dict(actor_norm='layer', critic_norm='layer'); "
    "dict(scale_returns=True) for large rewards; dict(inverting_gradients=True); learning_rate=1e-4, qf_learning_rate=1e-3. "
    "Then train anew.",
)


@stuck.by
def constant_actions(model: Any, n_updates: int, actions: np.ndarray) -> str | None:
    if len(actions) < FEWEST_STATES or n_updates < PATIENCE:  # early in training it may be so for a while
        return None
    if model.policy.options.inverting_gradients:  # which leads away from the bounds
        return None
    is_flat = np.abs(actions) > FLAT
    same = (actions.std(axis=0) < CONSTANT) & (is_flat.mean(axis=0) > MOST_FLAT)
    if same.mean() > 0.5:
        return (
            f"{same.mean():.0%} of the action's components are at the very bound, where tanh is flat, and the same in each of "
            f"{len(actions)} states, with a standard deviation below {CONSTANT:g}"
        )
    if is_flat.mean() > MOST_FLAT:
        return f"{is_flat.mean():.0%} of the actions in {len(actions)} states are at the very bound, where tanh is flat"
    return None


@stuck.by
def log_of_stuck_actor(progress: dict[str, np.ndarray]) -> str | None:
    stuck, flat, n_updates = (progress.get(f"train/{name}") for name in ("stuck", "flat", "n_updates"))
    if stuck is None or flat is None or n_updates is None or not np.nanmax(n_updates) >= PATIENCE:
        return None
    last = (n_updates >= np.nanmax(n_updates) - PATIENCE) & ~np.isnan(stuck)
    if not last.any() or stuck[last].min() <= 0.5 or flat[last].min() <= MOST_FLAT:
        return None
    return (
        f"in progress.csv train/stuck was {stuck[last].min():.2f} and train/flat {flat[last].min():.2f} for {PATIENCE} updates"
    )


dead = register(
    "dead-units",
    "A unit of ReLU that is 0 for every state passes no gradient and stays so. What is left of the layer is too small for the "
    "task. Too high a learning rate, or observations of a large scale, push them there.",
    "A smaller learning_rate, policy_kwargs=dict(normalize_observations=True) or dict(actor_norm='layer', "
    "critic_norm='layer'), or activation_fn='elu'; and train anew.",
)


@dead.by
def silent_units(model: Any, n_updates: int, states: Any) -> str | None:
    if model.has_memory or n_updates == 0:
        return None
    layers: list[th.Tensor] = []
    relus = [module for module in model.policy.actor.modules() if type(module) is nn.ReLU]
    hooks = [relu.register_forward_hook(lambda module, given, output: layers.append(output)) for relu in relus]
    try:
        model.policy.set_training_mode(False)
        with th.no_grad():
            model.policy.actor(model.policy.obs_to_tensor(states)[0])
    finally:
        for hook in hooks:
            hook.remove()
    for number, output in enumerate(layers):
        share = float((output.flatten(1) <= 0).all(dim=0).double().mean())
        if len(output) >= FEWEST_STATES and share > MOST_DEAD:
            return f"{share:.0%} of the units after ReLU {number + 1} of the actor are 0 in each of {len(output)} states"
    return None


q_range = register(
    "q-out-of-range",
    "The critic promises returns that the rewards do not allow, so that the actor climbs its errors. Targets that move too "
    "fast (tau), too high a learning rate, or a gamma near 1 make it so; one critic overestimates more than two.",
    "tau=0.005, a smaller qf_learning_rate, policy_kwargs=dict(n_critics=2), max_grad_norm=1, or "
    "policy_kwargs=dict(target_q_range=(low, high)). To see it: python -m sb3_ddpg_ext plot q MODEL.zip --env ENV",
)


@q_range.by
def promised(model: Any, n_updates: int, tried: Episodes, acted: Episodes, q: np.ndarray, returns: np.ndarray) -> str | None:
    """
    Any return lies between the smallest and largest reward, 1 / (1 - gamma) times each. The range is widened to the training's
    returns, since a goal's reward may not have been seen here, and once more by its own width.
    """
    if n_updates == 0 or model.gamma >= 1:
        return None
    seen = np.concatenate([tried.rewards, acted.rewards]) / (1 - model.gamma)
    low, high = min(seen.min(), returns.min(initial=0), 0), max(seen.max(), returns.max(initial=0), 0)
    typical = float(np.median(q))
    margin = max(high - low, INITIAL_ERROR)
    if low - margin <= typical <= high + margin:
        return None
    came = np.median(np.concatenate(acted.returns(model.gamma)))
    smallest, largest = seen.min() * (1 - model.gamma), seen.max() * (1 - model.gamma)
    return (
        f"Q is {typical:.3g} in the median of {len(q)} states; by the rewards seen, {smallest:.3g} to {largest:.3g}, and "
        f"gamma={model.gamma:g} it must lie between {low:.3g} and {high:.3g}, and returns of {came:.3g} came in the median"
    )
