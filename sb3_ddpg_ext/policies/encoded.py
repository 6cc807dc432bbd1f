"""Actor and critic on histories that recurrent encoders have taken in."""

from typing import Any, NamedTuple

import torch as th

from sb3_ddpg_ext.batch import Sequences
from sb3_ddpg_ext.networks.recurrent import RecurrentEncoder
from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.critics import Critic


class Encoded(NamedTuple):
    """Histories as the actor and as the critic see them."""

    actor: th.Tensor  # (n, features)
    critic: th.Tensor  # (n, features)
    sequences: Sequences | None = None  # which they were encoded from


class RecurrentActor(Actor):
    """:class:`Actor` on encoded histories, with their encoder."""

    def __init__(self, *args: Any, encoder: RecurrentEncoder, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.encoder = encoder

    def extract_features(self, obs: Any, features_extractor: Any) -> th.Tensor:
        return obs.actor if isinstance(obs, Encoded) else obs


class RecurrentCritic(Critic):
    """:class:`Critic` on encoded histories, with their encoder."""

    def __init__(self, *args: Any, encoder: RecurrentEncoder, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.encoder = encoder

    def extract_features(self, obs: Any, features_extractor: Any) -> th.Tensor:
        return obs.critic if isinstance(obs, Encoded) else obs
