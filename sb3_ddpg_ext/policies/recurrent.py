"""Actor and critic that remember, each with a recurrent encoder of its own."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN

from sb3_ddpg_ext.batch import Batch, Sequences
from sb3_ddpg_ext.networks.recurrent import CELLS, RecurrentEncoder, State
from sb3_ddpg_ext.observations import each, first
from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.base import DDPGPolicy
from sb3_ddpg_ext.policies.critics import Critic
from sb3_ddpg_ext.policies.encoded import Encoded, RecurrentActor, RecurrentCritic
from sb3_ddpg_ext.policies.heads import make_head
from sb3_ddpg_ext.validation import MAX_NETWORKS, MAX_UNITS, check_choice, check_instance, check_integer, refuse_not_finite


class RecurrentPolicy(DDPGPolicy):
    """
    mu(h_t) and Q(h_t, a_t) of the history h_t, which an LSTM or GRU takes in, Heess et al. (2015),
    https://arxiv.org/abs/1512.04455. Actor and critic have encoders of their own.

    What :meth:`predict` hands on as its state are (h, c) of an LSTM or (h,) of a GRU, and the previous action.

    :param args: as for :class:`DDPGPolicy`
    :param cell: ``"lstm"`` or ``"gru"``; None for what the name of the policy says
    :param hidden_size: of each recurrent layer
    :param n_layers: number of recurrent layers
    :param previous_action: whether the previous action is an input
    :param previous_reward: whether the previous reward is one; :meth:`predict` is then to be given it. ``evaluate_policy``,
        ``EvalCallback`` and rl_zoo3 do not: for them :class:`~sb3_ddpg_ext.wrappers.PreviousReward` has it in the observation
    :param kwargs: as for :class:`DDPGPolicy`; ``init`` is for the other layers, recurrent ones begin as torch makes them
    """

    default_cell: ClassVar[str] = "lstm"

    def __init__(
        self,
        *args: Any,
        cell: str | None = None,
        hidden_size: int = 128,
        n_layers: int = 1,
        previous_action: bool = True,
        previous_reward: bool = False,
        **kwargs: Any,
    ):
        cell = self.default_cell if cell is None else cell
        check_choice("policy_kwargs['cell']", cell, list(CELLS))
        check_instance("policy_kwargs['previous_action']", previous_action, bool, "True or False")
        check_instance("policy_kwargs['previous_reward']", previous_reward, bool, "True or False")
        self._encoder_kwargs: dict[str, Any] = dict(
            cell=cell,
            hidden_size=check_integer("policy_kwargs['hidden_size']", hidden_size, 1, MAX_UNITS),
            n_layers=check_integer("policy_kwargs['n_layers']", n_layers, 1, MAX_NETWORKS),
            previous_action=previous_action,
            previous_reward=previous_reward,
        )
        if kwargs.get("share_features_extractor"):
            raise ValueError("policy_kwargs['share_features_extractor'] must be False: each network has its own encoder")
        if kwargs.get("target_networks") is False:
            raise ValueError("policy_kwargs['target_networks'] must be True with a recurrent policy")
        for name in ("behaviour_cloning", "actor_average"):
            if kwargs.get(name):
                raise ValueError(f"policy_kwargs[{name!r}] must be 0 with a recurrent policy")
        super().__init__(*args, **kwargs)

    def _make_encoder(self) -> RecurrentEncoder:
        extractor = self.make_features_extractor()
        action_dim = get_action_dim(self.action_space)
        return RecurrentEncoder(
            self.observation_space, extractor, self.normalize_images, action_dim, **self._encoder_kwargs
        ).to(self.device)

    def _on_encoded(self, kwargs: dict[str, Any], encoder: RecurrentEncoder) -> dict[str, Any]:
        space = spaces.Box(-np.inf, np.inf, (encoder.n_outputs,), np.float32)
        own = dict(observation_space=space, features_extractor=FlattenExtractor(space), features_dim=encoder.n_outputs)
        return kwargs | own | dict(encoder=encoder, options=self.options)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        return RecurrentActor(**self._on_encoded(self.actor_kwargs, self._make_encoder())).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Critic:
        head = make_head(self.options.critic, self.options.critic_loss, self._popart)
        kwargs = self._on_encoded(self.critic_kwargs, self._make_encoder())
        return RecurrentCritic(**kwargs, head=head, return_scaler=self.return_scaler).to(self.device)

    @property
    def state_size(self) -> int:
        """Numbers in the states of both encoders together, for one environment."""
        return sum(part.numel() for net in (self.actor, self.critic) for part in net.encoder.initial_state(1))  # type: ignore[operator, union-attr]

    def step(
        self, observations: Any, previous_actions: th.Tensor, previous_rewards: th.Tensor, states: list[State]
    ) -> tuple[th.Tensor, list[State]]:
        """
        Take one observation of each environment in.

        :param observations: of shape (n_envs, *obs_shape), or a dict of such
        :param previous_actions: on the [-1, 1] scale, of shape (n_envs, action_dim)
        :param previous_rewards: of shape (n_envs, 1)
        :param states: of the actor's encoder, and where there is a second, of the critic's
        :return: the actions on the [-1, 1] scale, and the states after it
        """
        obs = each(lambda part: part[None], observations)
        nets, new = (self.actor, self.critic), []
        for net, state in zip(nets, states, strict=False):
            tokens, after = net.encoder(obs, previous_actions[None], previous_rewards[None], state)  # type: ignore[operator]
            new.append(after)
            if net is self.actor:
                actions = net(tokens[0])
        return actions, new

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        previous_reward: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The action mu(h), without noise, within the bounds of the action space, and the state after it.

        :param observation: one observation, or one of each environment
        :param state: what the call before gave; None at the beginning
        :param episode_start: for which environments an episode begins, of shape (n_envs,); their state is begun anew
        :param deterministic: without effect
        :param previous_reward: of shape (n_envs,), where the policy takes it in
        :raises ValueError: if the previous reward is an input and is missing, or an observation is not finite
        """
        refuse_not_finite("observation", observation)
        self.set_training_mode(False)
        obs, is_vectorized = self.obs_to_tensor(observation)
        n = len(first(obs))
        encoder: RecurrentEncoder = self.actor.encoder  # type: ignore[assignment]
        dtype = next(encoder.parameters()).dtype
        if state is None:
            parts = [
                *encoder.initial_state(n),
                th.zeros(1, n, get_action_dim(self.action_space), device=self.device, dtype=dtype),
            ]
        else:
            parts = [th.as_tensor(part, device=self.device) for part in state]
            if len(parts) != encoder.n_states + 1 or any(part.ndim != 3 or part.shape[1] != n for part in parts):
                shapes = [tuple(part.shape) for part in parts]
                raise ValueError(
                    f"state has arrays of the shapes {shapes}; they must be what predict gave for {n} observations"
                )
        if episode_start is not None:
            if np.size(episode_start) not in (1, n):
                raise ValueError(f"episode_start={episode_start!r} must be of shape ({n},), one for each observation")
            goes_on = th.as_tensor(1 - np.asarray(episode_start, np.float32).reshape(-1), device=self.device)[None, :, None]
            parts = [part * goes_on.to(part.dtype) for part in parts]
        rewards = self._previous_rewards(previous_reward, episode_start, n, state is None)
        with th.no_grad():
            scaled, (after,) = self.step(obs, parts[-1][0], rewards, [tuple(parts[:-1])])
        actions = self._unscaled(scaled.cpu().numpy())
        new = tuple(part.cpu().numpy() for part in (*after, scaled[None]))
        return actions if is_vectorized else actions[0], new

    def _previous_rewards(self, given: np.ndarray | None, starts: np.ndarray | None, n: int, is_first: bool) -> th.Tensor:
        if (
            self._encoder_kwargs["previous_reward"]
            and given is None
            and not (is_first or (starts is not None and np.all(starts)))
        ):
            raise ValueError(
                "previous_reward=None must be the rewards of the step before: policy_kwargs['previous_reward'] is True; "
                "wrappers.PreviousReward has it in the observation instead, where predict cannot be given it"
            )
        rewards = np.zeros(n, np.float32) if given is None else np.asarray(given, np.float32).reshape(n)
        if starts is not None:
            rewards = rewards * (1 - np.asarray(starts, np.float32).reshape(-1))
        return th.as_tensor(rewards, device=self.device)[:, None]

    def q_values(self, observations: Any, actions: np.ndarray) -> np.ndarray:
        """:raises ValueError: always: single observations have no Q here, histories have"""
        raise ValueError("q_values is for policies without a memory: Q is of histories here")

    def plain_actor(self, deterministic: bool = False) -> None:
        """Recurrent actors have no shorter way to their actions."""
        return

    def unrolled(self, batch: Any) -> Batch:
        """
        Encode sequences: the steps of all of them in one batch, with histories in place of observations. Steps behind the end
        of a shorter sequence are left out, so that losses are means over steps that happened. The target networks encode the
        same sequences by their own encoders.

        :param batch: n sequences
        """
        sequences: Sequences = batch
        now = Encoded(self._steps(self.actor, sequences), self._steps(self.critic, sequences), sequences)
        with th.no_grad():
            after = Encoded(self._follows(self.actor_target, sequences), self._follows(self.critic_target, sequences))
        mask = sequences.mask
        weights = None if sequences.weights is None else sequences.weights.T.expand(len(mask), -1)[mask][:, None]
        actions, dones, rewards, discounts = (
            part[mask] for part in (sequences.actions, sequences.dones, sequences.rewards, sequences.discounts)
        )
        return Batch(now, actions, after, dones, rewards, discounts, weights, sequences.indices)  # type: ignore[arg-type]

    def actor_loss(self, batch: Batch) -> th.Tensor:
        """
        As :meth:`DDPGPolicy.actor_loss`, by the critic of now, which has been updated since the batch was unrolled.

        :param batch: what :meth:`unrolled` gave
        """
        histories: Encoded = batch.observations  # type: ignore[assignment]
        assert histories.sequences is not None
        with th.no_grad():
            critic = self._steps(self.critic, histories.sequences)
        return super().actor_loss(batch._replace(observations=Encoded(histories.actor, critic)))  # type: ignore[arg-type]

    def _histories(self, net: Any, batch: Sequences) -> th.Tensor:
        """Encode sequences to features of shape (T + 1, n, features)."""
        encoder = net.encoder
        state = encoder.initial_state(batch.mask.shape[1])
        if batch.states is not None:
            state = self._of(net, batch.states)
        if batch.prefix is not None:
            with th.no_grad():
                state = self._warmed_up(encoder, batch, state)
        return encoder(batch.observations, batch.previous_actions, batch.previous_rewards, state)[0]

    def _of(self, net: Any, states: th.Tensor) -> State:
        """Take the state of one network from stored states of shape (n, state_size)."""
        own, other = net.encoder.initial_state(1), self.actor.encoder.initial_state(1)  # type: ignore[operator, union-attr]
        size = sum(part.numel() for part in own)
        first_number = 0 if net in (self.actor, self.actor_target) else sum(part.numel() for part in other)
        parts = states[:, first_number : first_number + size].to(own[0].dtype).view(len(states), len(own), own[0].shape[0], -1)
        return tuple(parts[:, i].transpose(0, 1).contiguous() for i in range(len(own)))

    @staticmethod
    def _warmed_up(encoder: RecurrentEncoder, batch: Sequences, state: State) -> State:
        prefix = batch.prefix
        assert prefix is not None
        for t, inside in enumerate(prefix.inside):
            obs = prefix.observations
            one = each(lambda part, t=t: part[t : t + 1], obs)
            _, new = encoder(one, prefix.previous_actions[t : t + 1], prefix.previous_rewards[t : t + 1], state)
            state = tuple(th.where(inside[None, :, None], a, b) for a, b in zip(new, state, strict=True))
        return state

    def _steps(self, net: Any, batch: Sequences) -> th.Tensor:
        return self._histories(net, batch)[:-1][batch.mask]

    def _follows(self, net: Any, batch: Sequences) -> th.Tensor:
        """The histories at the end of the n-step window of each step."""
        histories = self._histories(net, batch)
        return histories[batch.follows, th.arange(histories.shape[1], device=histories.device)][batch.mask]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self._encoder_kwargs


class CnnRecurrentPolicy(RecurrentPolicy):
    """:class:`RecurrentPolicy` for images, seen through ``NatureCNN``."""

    defaults: ClassVar[dict[str, Any]] = dict(features_extractor_class=NatureCNN)


class MultiInputRecurrentPolicy(RecurrentPolicy):
    """:class:`RecurrentPolicy` for ``Dict`` observations, seen through ``CombinedExtractor``."""

    defaults: ClassVar[dict[str, Any]] = dict(features_extractor_class=CombinedExtractor)


class GruPolicy(RecurrentPolicy):
    """:class:`RecurrentPolicy` with a GRU."""

    default_cell = "gru"


class CnnGruPolicy(CnnRecurrentPolicy):
    """:class:`CnnRecurrentPolicy` with a GRU."""

    default_cell = "gru"


class MultiInputGruPolicy(MultiInputRecurrentPolicy):
    """:class:`MultiInputRecurrentPolicy` with a GRU."""

    default_cell = "gru"
