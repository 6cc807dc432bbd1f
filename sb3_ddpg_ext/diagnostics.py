"""What the log says about actor and critic, and the warning that the actor has become constant."""

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.networks import evaluating
from sb3_ddpg_ext.policies import DDPGPolicy

N_TRANSITIONS = 256  # at most: those that are looked at
INTERVAL = 200  # updates between two looks, of which one takes the time of less than an update
AT_BOUND = 0.99  # of abs(a), on the [-1, 1] scale
CONSTANT = 0.01  # a dimension is stuck with less standard deviation over states than this,
FAR_OUT = 0.7  # and abs(mean a) above this

ADVICE = (
    "Observations or rewards of a large scale are the usual reason. What to try: "
    "policy_kwargs=dict(normalize_observations=True), or dict(actor_norm='layer', critic_norm='layer'); "
    "dict(scale_returns=True) for large rewards; a smaller learning_rate with the present one as qf_learning_rate; "
    "dict(inverting_gradients=True) or dict(preactivation_penalty=1e-3)."
)


class Diagnostics:
    """
    Looks at actor and critic on one batch of transitions, so that its numbers can be compared over time.

    The batch is drawn from the replay buffer at the first look, and again each time the buffer holds twice as many
    transitions. That leaves NumPy's random numbers as they were.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._size = 0  # of the buffer when the batch was drawn
        self._n_updates = -INTERVAL
        self._was_stuck = self._has_warned = False

    def measure(
        self,
        policy: DDPGPolicy,
        replay_buffer: Any,
        batch_size: int,
        gamma: float,
        n_updates: int,
        vec_normalize: Any = None,
    ) -> dict[str, float]:
        """
        :param policy: what to look at
        :param replay_buffer: where the transitions are
        :param batch_size: of the updates; no more are looked at
        :param gamma: discount factor
        :param n_updates: made until now; the result is empty if there were few since the last look
        :param vec_normalize: normalises what comes from the buffer
        """
        if n_updates - self._n_updates < INTERVAL:
            return {}
        self._n_updates = n_updates
        size = replay_buffer.size()
        if self._batch is None or size >= 2 * self._size:
            state = np.random.get_state()
            samples = replay_buffer.sample(min(batch_size, N_TRANSITIONS), env=vec_normalize)
            np.random.set_state(state)
            self._batch, self._size = Batch.from_samples(samples, gamma), size
        statistics = _look(policy, self._batch)
        self._warn(statistics["stuck"], len(self._batch.rewards))
        return statistics

    def _warn(self, stuck: float, n: int) -> None:
        """Once, when most dimensions are stuck in two looks: one may be a passing state of early training."""
        is_stuck, was_stuck = stuck > 0.5, self._was_stuck
        self._was_stuck = is_stuck
        if is_stuck and was_stuck and not self._has_warned:
            self._has_warned = True
            dimensions = "its action" if stuck == 1 else f"{stuck:.0%} of its action's dimensions"
            warnings.warn(
                f"the actor has become constant: {dimensions} is the same, at or near a bound, in each of {n} states from the "
                f"replay buffer. {ADVICE}",
                stacklevel=3,
            )


@th.no_grad()
def _look(policy: DDPGPolicy, batch: Batch) -> dict[str, float]:
    actor, critic = policy.actor, policy.critic
    with evaluating(actor, critic):
        preactivation = actor.preactivation(batch.observations)
        actions = actor.mu[-1](preactivation)
        q = critic.q1_forward(batch.observations, batch.actions)  # type: ignore[arg-type]
        td_errors = critic.td_errors(batch, policy.critic_target, policy.actor_target(batch.next_observations))
    spread = actions.std(dim=0, correction=0)
    is_stuck = (spread < CONSTANT) & (actions.mean(dim=0).abs() > FAR_OUT)
    unit = 1.0 if policy.return_scaler is None else 1 / policy.return_scaler.factor
    numbers = dict(
        q_mean=q.mean() * unit,
        q_min=q.min() * unit,
        q_max=q.max() * unit,
        td_error=td_errors.abs().mean() * unit,
        preactivation=preactivation.abs().mean(),
        saturated=(actions.abs() > AT_BOUND).to(q.dtype).mean(),
        action_std=spread.mean(),
        stuck=is_stuck.to(q.dtype).mean(),
        actor_grad_norm=_grad_norm(actor.parameters()),
        critic_grad_norm=_grad_norm(critic.parameters()),
    )
    names, values = zip(*numbers.items(), strict=True)
    return dict(
        zip(names, th.stack([value.to(q.dtype) for value in values]).tolist(), strict=True)
    )  # one copy from the device


def _grad_norm(parameters: Iterable[th.Tensor]) -> th.Tensor:
    """Of the last update, and of what was clipped there."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return (
        th.linalg.vector_norm(th.stack([th.linalg.vector_norm(gradient) for gradient in gradients]))
        if gradients
        else th.zeros(())
    )
