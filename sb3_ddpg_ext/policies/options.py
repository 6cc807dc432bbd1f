"""Options of DDPG's networks. With the defaults they are those of Stable-Baselines3."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch as th
from torch import nn

from sb3_ddpg_ext.networks import ACTIVATIONS, MLP, NORMS
from sb3_ddpg_ext.networks.initialise import Initialiser, make_initialiser
from sb3_ddpg_ext.policies.heads import LOSSES, check_loss, head_takes
from sb3_ddpg_ext.validation import (
    LARGEST,
    MAX_WEIGHT,
    SMALLEST,
    check_choice,
    check_instance,
    check_integer,
    check_layers,
    check_real,
    naming,
)

Made = TypeVar("Made")
# Arguments of Stable-Baselines3's policies.
SB3_KWARGS = ("features_extractor_class", "features_extractor_kwargs", "normalize_images", "optimizer_class",
              "optimizer_kwargs", "share_features_extractor")  # fmt: skip
PENALTIES = ("preactivation_penalty", "action_l2")


@dataclass(frozen=True)
class Options:
    """
    Arguments that :class:`DDPGPolicy` has beside those of Stable-Baselines3's ``TD3Policy``, for ``policy_kwargs``.

    Networks:

    :param actor_norm: between each hidden layer of the actor and its activation: ``"none"``, ``"layer"`` (Ba et al. 2016),
        ``"batch"`` (Ioffe & Szegedy 2015) or ``"batch-renorm"`` (Ioffe 2017), ``dict(kind="layer", eps=1e-3)`` with the
        arguments of torch's class, or a function from a number of features to a module. BatchNorm's running statistics are
        used to act, to evaluate, in the targets, which have a copy of them, and for the critic in the actor's step.
    :param critic_norm: the same for the critic
    :param target_statistics: what BatchNorm in the targets normalises by: ``"running"``, copies of the online networks'
        running statistics, or ``"batch"``, the statistics of the minibatch, which fit the targets' own, older weights
    :param input_norm: the same for what goes into both, the actions excepted
    :param norm_after_action: with ``critic_norm``, normalise the critic's layers from the action on, and its own, too
    :param init: initial weights, of features extractors too: ``"torch"``, ``"orthogonal"``, ``"xavier"``, ``"normal"``,
        ``"uniform"``, ``"fan_in"``, a dict with its argument, ``dict(kind="normal", std=0.1)``, or a function of a layer
    :param last_init: of the last layers, in the same forms, or the limit of a uniform distribution: 3e-3 in DDPG's paper; None
        for ``init``
    :param residual: residual blocks with LayerNorm (SimBa, Lee et al. 2025) in place of layers: one for each number in
        ``net_arch``
    :param action_layer: hidden layer of the critic, counted from 0, where the actions enter; 1 in DDPG's paper
    :param action_branch: hidden units of the actions' own layers before they enter
    :param action_join: how they enter: ``"concat"``, beside the outputs of the layer before, or ``"sum"``, added to these
        before their activation by one more layer of their own
    :param critic_dropout: share of the critic's hidden units left out in its own loss (DroQ, Hiraoka et al. 2022)

    Normalisation:

    :param normalize_observations: of all networks by running statistics, which are saved with the model and move in training
        only; a dict for the arguments of :class:`~sb3_ddpg_ext.networks.ObservationNormaliser`
    :param scale_returns: divide rewards by the running standard deviation of returns before the critic learns from them; a
        dict for the arguments of :class:`~sb3_ddpg_ext.networks.ReturnScaler`
    :param popart: normalise the critic's targets and preserve its outputs; a dict for the arguments of
        :class:`~sb3_ddpg_ext.networks.PopArt`

    Critic:

    :param critic: ``"scalar"``, ``"categorical"`` (C51, Bellemare et al. 2017; D4PG, Barth-Maron et al. 2018) or
        ``"quantile"`` (QR-DQN, Dabney et al. 2018); a dict for the arguments, ``dict(kind="categorical", n_atoms=51,
        v_min=-10, v_max=10)``, ``dict(kind="quantile", n_quantiles=32)``; or a
        :class:`~sb3_ddpg_ext.policies.heads.Head` of your own, of which each critic gets a copy
    :param critic_loss: of a scalar critic: ``"mse"``, ``"huber"``, or a function such as ``torch.nn.functional.l1_loss``
    :param backup: of several critics: ``"min"`` (clipped double Q-learning, TD3) or ``"mean"``
    :param objective: what the actor climbs of several critics: ``"first"`` (TD3), ``"mean"`` or ``"min"``
    :param target_q_range: ``(low, high)``, to which targets are clamped, on the scale of the rewards as they came
    :param target_networks: False for none: the critic sees present and next observations in one batch, whose statistics its
        BatchNorm then uses for both (CrossQ, Bhatt et al. 2024)
    :param critic_weight_decay: on the critic's weights: L2 in the gradient as in DDPG's paper; on biases, normalisation and
        output layers none, as in OpenAI's Baselines
    :param decoupled_weight_decay: apart from the gradient instead, as AdamW always does (Loshchilov & Hutter 2019)

    Against saturation:

    :param inverting_gradients: in place of the actor's tanh (Hausknecht & Stone 2016)
    :param output_norm: largest mean magnitude before tanh (Wang et al. 2020); None for no bound
    :param dqda_clip: largest norm of dQ/da of a sample in the actor's step; None for no bound
    :param preactivation_penalty: weight of the mean square before tanh in the actor's loss; 1e-5 in MR.Q (Fujimoto et al.
        2025)
    :param action_l2: weight of the mean square of the actions in it; 1 in HER's DDPG (Andrychowicz et al. 2017)

    Acting:

    :param actor_average: share of the actor in each step of a running average of its parameters, by which
        ``predict(..., deterministic=True)`` acts; exploration and learning are by the actor itself. 0, the default, for no
        average (Nikishin et al. 2018, "Improving Stability in Deep Reinforcement Learning with Weight Averaging")

    Demonstrations:

    :param behaviour_cloning: weight of the mean of ||mu(s) - a||^2 over the demonstrations of a batch in the actor's loss,
        Nair et al. (2018), "Overcoming Exploration in Reinforcement Learning with Demonstrations", section IV
    :param q_filter: only of those with Q(s, a) > Q(s, mu(s)), the same, section IV.C

    :raises ValueError: for a value that is unknown or outside what is allowed, or two that contradict each other
    :raises TypeError: for a value of the wrong type
    """

    actor_norm: Any = "none"
    critic_norm: Any = "none"
    target_statistics: str = "running"
    input_norm: Any = "none"
    norm_after_action: bool = True
    init: Any = "torch"
    last_init: Any = None
    residual: bool = False
    action_layer: int = 0
    action_branch: tuple[int, ...] | list[int] = ()
    action_join: str = "concat"
    critic_dropout: float = 0.0
    normalize_observations: bool | dict[str, Any] = False
    scale_returns: bool | dict[str, Any] = False
    popart: bool | dict[str, Any] = False
    critic: Any = "scalar"
    critic_loss: Any = "mse"
    backup: str = "min"
    objective: str = "first"
    target_q_range: tuple[float, float] | None = None
    target_networks: bool = True
    critic_weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    inverting_gradients: bool = False
    output_norm: float | None = None
    dqda_clip: float | None = None
    preactivation_penalty: float = 0.0
    action_l2: float = 0.0
    actor_average: float = 0.0
    behaviour_cloning: float = 0.0
    q_filter: bool = True

    def __post_init__(self) -> None:
        for name in ("actor_norm", "critic_norm", "input_norm"):
            NORMS.make(_full(name), getattr(self, name))
        for field in fields(self):
            if field.type is bool:
                check_instance(_full(field.name), getattr(self, field.name), bool, "True or False")
        for name in ("normalize_observations", "scale_returns", "popart"):
            check_instance(_full(name), getattr(self, name), (bool, dict), "True, False, or a dict of arguments")
            if getattr(self, name) == {}:
                self._set(name, True)  # no arguments: all defaults
        check_integer(_full("action_layer"), self.action_layer, at_least=0)
        check_layers(_full("action_branch"), self.action_branch)
        check_choice(_full("action_join"), self.action_join, ["concat", "sum"])
        check_loss(_full("critic_loss"), LOSSES.make(_full("critic_loss"), self.critic_loss))
        check_choice(_full("target_statistics"), self.target_statistics, ["running", "batch"])
        check_choice(_full("backup"), self.backup, ["min", "mean"])
        check_choice(_full("objective"), self.objective, ["first", "mean", "min"])
        if check_real(_full("critic_dropout"), self.critic_dropout, 0, 1) == 1:
            raise ValueError(f"{_full('critic_dropout')}={self.critic_dropout!r} must be less than 1")
        for name in (*PENALTIES, "critic_weight_decay", "behaviour_cloning"):
            self._set(name, check_real(_full(name), getattr(self, name), 0, MAX_WEIGHT))
        for name in ("output_norm", "dqda_clip"):
            if getattr(self, name) is not None:
                self._set(name, check_real(_full(name), getattr(self, name), SMALLEST, LARGEST))
        self._set("actor_average", check_real(_full("actor_average"), self.actor_average, 0, 1))
        self._check_range()
        self._check_together()
        self.initialisers()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def names(cls) -> list[str]:
        """:return: of all options"""
        return [field.name for field in fields(cls)]

    def _check_range(self) -> None:
        if self.target_q_range is None:
            return
        name = _full("target_q_range")
        check_instance(name, self.target_q_range, (tuple, list), "a pair (low, high) or None")
        if len(self.target_q_range) != 2:
            raise ValueError(f"{name}={self.target_q_range!r} must be a pair (low, high) or None")
        low, high = (check_real(name, bound, -LARGEST, LARGEST) for bound in self.target_q_range)
        if low >= high:
            raise ValueError(f"{name}={self.target_q_range!r} must have low < high")
        self._set("target_q_range", (low, high))

    def _check_together(self) -> None:
        if self.residual and not self.norm_after_action:
            raise ValueError(f"{_full('norm_after_action')} must be True with residual=True, whose blocks are normalised")
        if self.action_join == "sum" and self.action_layer == 0:
            raise ValueError(f"{_full('action_layer')} must be at least 1 with action_join='sum', which adds to a layer")
        if self.decoupled_weight_decay and not self.critic_weight_decay:
            raise ValueError(f"{_full('decoupled_weight_decay')}=True needs a critic_weight_decay > 0")
        if self.critic_loss != "mse" and not head_takes(self.critic, "loss"):
            raise ValueError(
                f"{_full('critic_loss')}={self.critic_loss!r} is for a scalar critic; critic={self.critic!r} has its own loss"
            )
        if self.popart and not head_takes(self.critic, "popart"):
            raise ValueError(
                f"{_full('popart')} moves the scale of returns, which critic={self.critic!r} has fixed, as the atoms of a "
                "categorical one are"
            )
        if self.popart and not self.target_networks:
            raise ValueError(
                f"{_full('popart')} moves the scale between target and estimate, which target_networks=False has in one pass"
            )
        if self.inverting_gradients and self.output_norm is not None:
            raise ValueError(f"{_full('output_norm')} is for what goes into tanh, which inverting_gradients=True takes away")

    def initialisers(self) -> tuple[Initialiser, Initialiser | None]:
        """The initialisers of all layers, and of the last."""
        last = None if self.last_init is None else make_initialiser(_full("last_init"), self.last_init)
        return make_initialiser(_full("init"), self.init), last

    @contextmanager
    def naming(self, norm: str, activation_fn: Any) -> Iterator[None]:
        """
        A context in which a network is built and tried: an error in it names the parts that users may give.

        :param norm: ``"actor_norm"`` or ``"critic_norm"``
        :param activation_fn: of the network
        """
        parts = [f"{name}={getattr(self, name)!r}" for name in (norm, "input_norm", "init", "last_init")]
        name = f"policy_kwargs: the network of {', '.join(parts)}, and activation_fn"
        with naming(name, activation_fn, "of modules that keep the shape (batch, units), and give finite numbers"):
            yield

    def actor_mlp(self, net_arch: list[int], activation_fn: type[nn.Module]) -> MLP:
        return MLP(net_arch, activation_fn, self.actor_norm, self.input_norm, self.residual)

    def critic_mlp(self, net_arch: list[int], activation_fn: type[nn.Module]) -> MLP:
        highest = len(net_arch) if self.action_join == "sum" else max(len(net_arch) - 1, 0)
        if self.action_layer > highest:  # else Q(s, a) = f(s) + g(a), of which one action is the best in all states
            raise ValueError(
                f"{_full('action_layer')}={self.action_layer} must be at most {highest} with critic layers {net_arch} and "
                f"action_join={self.action_join!r}, so that a hidden layer or activation sees states and actions together"
            )
        return MLP(net_arch, activation_fn, self.critic_norm, self.input_norm, self.residual, self.critic_dropout)

    def check_blocks(self, *arches: list[int]) -> None:
        """:raises ValueError: if residual blocks of different widths would have to be added"""
        for net_arch in arches:
            if self.residual and len(set(net_arch)) != 1:
                raise ValueError(f"{_full('net_arch')}={net_arch}: residual=True needs one width for all its blocks")

    def check_targets(self, *pairs: tuple[nn.Module, nn.Module]) -> None:
        """
        :param pairs: each a network and its target
        :raises ValueError: if a layer of a network is one of its target, too, which is then no copy
        """
        for net, target in pairs:
            own = set(net.parameters())
            shared = [name for name, p in target.named_parameters() if p in own and name.startswith(("mu.", "qf"))]
            if shared:
                parts = [f"{name}={getattr(self, name)!r}" for name in ("actor_norm", "critic_norm", "input_norm")]
                raise ValueError(
                    f"policy_kwargs: {', '.join(parts)} and activation_fn must make a new module each time; {shared[0]} of "
                    f"{type(net).__name__} is its target's, too"
                )


def check_activation(activation_fn: Any) -> Callable[[], nn.Module]:
    """A class of activations, a function that makes one, or the name of one."""
    if isinstance(activation_fn, str):
        check_choice(_full("activation_fn"), activation_fn.lower(), list(ACTIVATIONS))
        return ACTIVATIONS[activation_fn.lower()]
    allowed = f"one of {list(ACTIVATIONS)}, a class of torch modules, or a function that makes a module, without arguments"
    with naming(_full("activation_fn"), activation_fn, allowed), th.random.fork_rng(devices=[]):
        check_instance(
            "the activation", None if isinstance(activation_fn, nn.Module) else activation_fn(), nn.Module, "a module"
        )
    return activation_fn


def make_if_chosen(name: str, choice: bool | dict[str, Any], make: Callable[..., Made], *fixed: Any) -> Made | None:
    """
    :param name: of the option
    :param choice: False for None, True for what ``make`` makes by itself, or a dict of its arguments
    :param make: a class
    :param fixed: its first arguments, which are not the user's
    """
    if choice is False:
        return None
    arguments = choice if isinstance(choice, dict) else {}
    allowed = list(inspect.signature(make).parameters)[len(fixed) :]
    if unknown := sorted(set(arguments) - set(allowed), key=str):
        raise TypeError(f"{_full(name)}={choice!r} has no argument {unknown[0]!r}; it has {allowed}")
    return make(*fixed, **arguments)


def _full(name: str) -> str:
    return f"policy_kwargs[{name!r}]"
