"""Observations with or without keys: the one place that asks which they are."""

from collections.abc import Callable
from typing import Any

from gymnasium import spaces


def each(function: Callable[..., Any], observations: Any, *others: Any) -> Any:
    """
    :param function: of an array or a tensor
    :param observations: an array, a tensor, or a dict of such
    :param others: further arguments of ``function``, in the same form
    :return: ``function`` of it, or of each entry of the dict
    """
    if isinstance(observations, dict):
        return {key: function(value, *(other[key] for other in others)) for key, value in observations.items()}
    return function(observations, *others)


def first(observations: Any) -> Any:
    """
    :param observations: an array, a tensor, or a dict of such
    :return: it, or the first entry of the dict
    """
    return next(iter(observations.values())) if isinstance(observations, dict) else observations


def parts_of(space: spaces.Space) -> dict[str, spaces.Space]:
    """
    :param space: of the observations
    :return: the spaces in a ``Dict`` by their keys, or the space itself by ""
    """
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}


def has_keys(space: spaces.Space) -> bool:
    """
    :param space: of the observations
    :return: whether it is a ``Dict``
    """
    return "" not in parts_of(space)
