"""Where an argument belongs that was given in another place: to the model, or to one of its parts."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from sb3_ddpg_ext.buffers import SAMPLINGS, HindsightReplayBuffer, SequenceReplayBuffer, TransitionReplayBuffer
from sb3_ddpg_ext.buffers.buffer_class import BESIDE
from sb3_ddpg_ext.distributed.settings import COLLECTORS
from sb3_ddpg_ext.kinds import Kinds, nearest_names
from sb3_ddpg_ext.noise.base import NOISES
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.policies.options import SB3_KWARGS, Options

# What a class is given by the model, and no user gives.
BY_THE_MODEL = {"self", "args", "kwargs", "misplaced", "observation_space", "action_space", "lr_schedule", "n_envs"}
BUFFERS = (TransitionReplayBuffer, HindsightReplayBuffer, SequenceReplayBuffer)


class Place(NamedTuple):
    """
    :param name: in words
    :param form: how an argument is written there, with ``{}`` for ``name=value``
    :param names: of the arguments
    """

    name: str
    form: str
    names: set[str]


def is_ours(cls: type) -> bool:
    """Whether this library has the class."""
    return str(getattr(cls, "__module__", "")).startswith("sb3_ddpg_ext.")  # what is no class is refused later


def names_of(cls: type) -> set[str]:
    """:return: the arguments of the constructor of a class, and of those that it hands its own on to"""
    own = (base for base in cls.__mro__ if "__init__" in vars(base) and is_ours(base))
    return {name for base in own for name in inspect.signature(base.__init__).parameters} - BY_THE_MODEL  # type: ignore[misc]


def of_kinds(name: str, form: str, kinds: Kinds[Any], first: str) -> list[Place]:
    """:return: a place for each kind; ``first`` is named before others that have the same arguments"""
    ordered = sorted(kinds, key=lambda kind: kind != first)
    return [Place(name, form.replace("KIND", kind), set(kinds.arguments_of(kind))) for kind in ordered]


def places(model_class: type, policy_class: type[DDPGPolicy]) -> list[Place]:
    """
    :param model_class: of the model
    :param policy_class: whose options are those of ``policy_kwargs``
    :return: where arguments go; the first that has a name is meant
    """
    options = getattr(policy_class, "options_class", Options)  # a policy of SB3's stands for ours
    of_policy = names_of(policy_class) | {*options.names(), *SB3_KWARGS}
    of_buffer = BESIDE.union(*map(names_of, BUFFERS))
    return [
        Place("Give it to the model itself", "{}", names_of(model_class)),
        Place("Put it in policy_kwargs", "policy_kwargs=dict({})", of_policy),
        Place("Put it in replay_buffer_kwargs", "replay_buffer_kwargs=dict({})", of_buffer),
        *of_kinds(
            "It is the sampling's", "replay_buffer_kwargs=dict(sampling=dict(kind='KIND', {}))", SAMPLINGS, "prioritized"
        ),
        *of_kinds("It is the noise's", "action_noise=dict(kind='KIND', {})", NOISES, "normal"),
        *of_kinds("It is the collector's", 'collector=dict(kind="KIND", {})', COLLECTORS, "ray"),
    ]


def refuse(owner: str, name: str, value: Any, taken: Iterable[str], all_places: list[Place]) -> NoReturn:
    """
    :param owner: what was given an argument that it does not have, in words
    :param name: of the argument
    :param value: of the argument
    :param taken: the names that it has
    :param all_places: see :func:`places`
    :raises TypeError: with the place where the argument belongs, or the nearest name, or all names
    """
    known = {each: place for place in reversed(all_places) for each in place.names}
    nearest = [name] if name in known else nearest_names(name, taken) or nearest_names(name, known)
    if not nearest:
        raise TypeError(f"{owner} has no argument {name!r}; it has {sorted(taken)}")
    guess = "." if name in known else f", did you mean {nearest[0]!r}?"
    advice = f" {known[nearest[0]].name}: {known[nearest[0]].form.format(f'{nearest[0]}={value!r}')}"
    raise TypeError(f"{owner} has no argument {name!r}{guess}{'' if nearest[0] in taken else advice}")


def check_places(model_class: Any, misplaced: Mapping[str, Any], policy: Any, buffer_class: Any, **kwargs: Any) -> None:
    """
    :param model_class: of the model
    :param misplaced: what the model was given and does not have
    :param policy: a class, or its name
    :param buffer_class: of the replay buffer; None for one of ours
    :param kwargs: ``policy_kwargs`` and ``replay_buffer_kwargs``, where classes that a user has written may take anything
    :raises TypeError: for an argument that belongs elsewhere
    """
    if not (misplaced or any(kwargs.values())):
        return
    policy_class = model_class.policy_aliases.get(policy, policy)
    all_places = places(model_class, policy_class)
    of_model, of_policy, of_buffer = (place.names for place in all_places[:3])
    for name, value in misplaced.items():
        refuse(model_class.__name__, name, value, of_model, all_places)
    elsewhere = {name for place in all_places for name in place.names}
    for owner, cls, taken in (
        ("policy_kwargs", policy_class, of_policy),
        ("replay_buffer_kwargs", TransitionReplayBuffer if buffer_class is None else buffer_class, of_buffer),
    ):
        for name in sorted(elsewhere.intersection(kwargs[owner] or ()) - taken) if is_ours(cls) else ():
            refuse(owner, name, kwargs[owner][name], taken, all_places)


def check_replacements(model_class: Any, kwargs: Mapping[str, Any]) -> None:
    """
    :param model_class: of a model that is loaded
    :param kwargs: what is to replace attributes in its file
    :raises TypeError: for an argument that belongs elsewhere, which would be without effect
    """
    all_places = places(model_class, model_class.policy_base) if kwargs else []
    for name in sorted({name for place in all_places[1:] for name in place.names}.intersection(kwargs)):
        if name not in all_places[0].names:
            refuse(f"{model_class.__name__}.load", name, kwargs[name], all_places[0].names, all_places)
