"""Whether a features extractor can be used."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_ddpg_ext.networks import evaluating
from sb3_ddpg_ext.observations import has_keys, parts_of
from sb3_ddpg_ext.validation import check_flag, check_kwargs, is_subclass, naming

FLAGS = ("normalize_images", "share_features_extractor")


def checked_extractor_kwargs(policy_kwargs: dict[str, Any]) -> dict[str, bool]:
    """
    :param policy_kwargs: the user's
    :return: those for features extractors that are True or False
    :raises ValueError: for a value outside what is allowed
    :raises TypeError: for a value of the wrong type
    """
    check_kwargs("policy_kwargs['features_extractor_kwargs']", policy_kwargs.get("features_extractor_kwargs"))
    flags = {name: check_flag(f"policy_kwargs[{name!r}]", policy_kwargs[name]) for name in FLAGS if name in policy_kwargs}
    extractor = policy_kwargs.get("features_extractor_class", BaseFeaturesExtractor)
    if not flags.get("normalize_images", True) and not is_subclass(extractor, object):
        raise TypeError(f"policy_kwargs['features_extractor_class']={extractor!r} must be a class with normalize_images=False")
    return flags


def made_extractor(make: Callable[[], BaseFeaturesExtractor], policy: BasePolicy) -> BaseFeaturesExtractor:
    """
    Make a features extractor, and try it on two observations of zeros, without leaving a trace in its statistics.

    :param make: makes it
    :param policy: for which it is
    :raises ValueError: if that fails, or it does not give as many features as it says
    :raises TypeError: if that fails because of a type
    """
    name = f"policy_kwargs['features_extractor_class'] with features_extractor_kwargs={policy.features_extractor_kwargs!r}"
    with naming(name, policy.features_extractor_class, f"a BaseFeaturesExtractor for {policy.observation_space}"):
        extractor = make()
        shape, wanted = _features_of(extractor, policy).shape, (2, extractor.features_dim)
        if shape != wanted:
            raise ValueError(f"it gave features of the shape {tuple(shape)} where it says {wanted}")
    return extractor


@th.no_grad()
def _features_of(extractor: BaseFeaturesExtractor, policy: BasePolicy) -> th.Tensor:
    parts = parts_of(policy.observation_space)
    zeros = {key: th.from_numpy(np.zeros((2, *(part.shape or ())), part.dtype)) for key, part in parts.items()}
    obs: Any = zeros if has_keys(policy.observation_space) else zeros[""]
    with evaluating(extractor), th.random.fork_rng(devices=[]):
        return extractor(preprocess_obs(obs, policy.observation_space, normalize_images=policy.normalize_images))
