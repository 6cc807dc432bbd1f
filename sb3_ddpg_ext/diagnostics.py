"""What the log says about actor and critic, and the warning that the actor has got stuck."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.networks import evaluating
from sb3_ddpg_ext.policies import Actor, DDPGPolicy

N_TRANSITIONS = 256  # at most: those that are looked at
INTERVAL = 200  # updates between two looks, of which one takes the time of less than an update
PATIENCE = 1000  # updates for which an actor must have been stuck: early in training it may be for a while
AT_BOUND = 0.99  # of abs(a), on the [-1, 1] scale
CONSTANT = 0.01  # a dimension is stuck with less standard deviation over states than this,
FAR_OUT = 0.7  # and abs(mean a) above this
FLAT = 10.0  # abs(x), from which on the derivative of tanh is less than 1e-8 and nothing is learnt any more

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
        self._stuck_since: int | None = None  # the update of the first look in a row that found it so
        self._has_warned = False

    def is_due(self, n_updates: int) -> bool:
        """
        Whether enough updates were made since the last look.

        :param n_updates: made until now
        """
        return n_updates - self._n_updates >= INTERVAL

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes, for a training that goes on from a checkpoint."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any], device: th.device) -> None:
        """
        :param state: of :meth:`state`
        :param device: of the networks; on another one than the CPU the batch is drawn anew
        """
        self.__dict__.update(state if device.type == "cpu" else state | {"_batch": None})

    def measure(
        self,
        policy: DDPGPolicy,
        draw: Callable[[int], Batch],
        size: int,
        n_updates: int,
    ) -> dict[str, float]:
        """
        :param policy: what to look at
        :param draw: gives a batch of at most so many transitions from the replay buffer
        :param size: of the replay buffer
        :param n_updates: made until now
        """
        self._n_updates = n_updates
        if self._batch is None or size >= 2 * self._size:
            state = np.random.get_state()
            self._batch, self._size = draw(N_TRANSITIONS), size
            np.random.set_state(state)
        statistics = _statistics_of(policy, self._batch)
        self._warn(statistics["stuck"], statistics["flat"], int(statistics.pop("n_states")))
        return statistics

    def _warn(self, stuck: float, flat: float, n: int) -> None:
        if stuck > 0.5:
            what = "its action is the same" if stuck == 1 else f"{stuck:.0%} of its action's dimensions are the same"
            trouble = f"the actor has become constant: {what}, at or near a bound, in each of {n} states"
        elif flat > 0.95:
            trouble = f"the actor has stopped learning: tanh is flat where {flat:.0%} of its actions are, in {n} states"
        else:
            self._stuck_since = None
            return
        if self._stuck_since is None:
            self._stuck_since = self._n_updates
        if self._n_updates - self._stuck_since >= PATIENCE and not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{trouble} from the replay buffer. {ADVICE}", stacklevel=3)


@th.no_grad()
def _statistics_of(policy: DDPGPolicy, batch: Batch) -> dict[str, float]:
    actor, critic = policy.actor, policy.critic
    batch = policy.unrolled(batch)
    has_td_error = hasattr(critic, "td_errors")
    with evaluating(actor, critic, policy.actor_target, policy.critic_target):
        actions = actor(batch.observations)
        is_ours = isinstance(actor, Actor) and isinstance(actor.mu, nn.Sequential)
        preactivation = actor.preactivation(batch.observations) if is_ours else actions
        if has_td_error:
            q = critic.q1_forward(batch.observations, batch.actions)  # type: ignore[arg-type]
            td_errors = critic.td_errors(batch, policy.critic_target, policy.actor_target(batch.next_observations))
        else:  # a critic of one's own
            q = critic.value(batch.observations, batch.actions)
    spread = actions.std(dim=0, correction=0)
    is_stuck = (spread < CONSTANT) & (actions.mean(dim=0).abs() > FAR_OUT)
    unit = 1.0 if policy.return_scaler is None else 1 / policy.return_scaler.factor
    numbers = dict(
        q_mean=q.mean() * unit,
        q_min=q.min() * unit,
        q_max=q.max() * unit,
        **(dict(td_error=td_errors.abs().mean() * unit) if has_td_error else {}),
        preactivation=preactivation.abs().mean(),
        saturated=(actions.abs() > AT_BOUND).to(q.dtype).mean(),
        flat=((preactivation.abs() > FLAT) & (is_ours and isinstance(actor.mu[-1], nn.Tanh))).to(q.dtype).mean(),
        action_std=spread.mean(),
        stuck=is_stuck.to(q.dtype).mean(),
        actor_grad_norm=_grad_norm(actor.parameters()),
        critic_grad_norm=_grad_norm(critic.parameters()),
    )
    values = th.stack([number.to(q) for number in numbers.values()]).tolist()  # one copy from the device
    return dict(zip(numbers, values, strict=True)) | {"n_states": len(q)}


def _grad_norm(parameters: Iterable[th.Tensor]) -> th.Tensor:
    """The norm of the gradient in the last update, after it was clipped."""
    norms = [th.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None]
    return th.linalg.vector_norm(th.stack(norms)) if norms else th.zeros(())
