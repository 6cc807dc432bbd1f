"""A history of observations, actions and rewards, taken in by an LSTM or a GRU."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_ddpg_ext.observations import each

CELLS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU}
State = tuple[th.Tensor, ...]  # (h, c) of an LSTM, (h,) of a GRU, each of shape (n_layers, n, hidden_size)


class RecurrentEncoder(nn.Module):
    """
    From the history h_t = (o_1, a_1, r_1, ..., a_t-1, r_t-1, o_t) to features: the recurrent layers' output beside the
    features of the present observation, as in Ni et al. (2022), "Recurrent Model-Free RL Can Be a Strong Baseline for Many
    POMDPs", section 4.

    :param observation_space: of single observations
    :param extractor: what they go through first
    :param normalize_images: whether to divide images by 255
    :param action_dim: number of action dimensions
    :param cell: ``"lstm"`` or ``"gru"``
    :param hidden_size: of each recurrent layer
    :param n_layers: of these
    :param previous_action: whether a_t-1 is an input
    :param previous_reward: whether r_t-1 is
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        extractor: BaseFeaturesExtractor,
        normalize_images: bool,
        action_dim: int,
        cell: str = "lstm",
        hidden_size: int = 128,
        n_layers: int = 1,
        previous_action: bool = True,
        previous_reward: bool = False,
    ):
        super().__init__()
        self.observation_space, self.normalize_images = observation_space, normalize_images
        self.previous_action, self.previous_reward = previous_action, previous_reward
        self.extractor = extractor
        features_dim = int(extractor.features_dim)  # SB3 may have added NumPy numbers
        n_inputs = features_dim + previous_action * action_dim + previous_reward
        self.cell = CELLS[cell](n_inputs, hidden_size, n_layers)
        self.n_states = 2 if cell == "lstm" else 1
        self.n_outputs = hidden_size + features_dim

    def initial_state(self, n: int) -> State:
        """Zeros, for ``n`` histories."""
        parameter = next(self.cell.parameters())
        shape = (self.cell.num_layers, n, self.cell.hidden_size)
        return tuple(parameter.new_zeros(shape) for _ in range(self.n_states))

    def forward(
        self, observations: Any, previous_actions: th.Tensor, previous_rewards: th.Tensor, state: State
    ) -> tuple[th.Tensor, State]:
        """
        :param observations: of shape (T, n, *obs_shape), or a dict of such
        :param previous_actions: a_t-1, of shape (T, n, action_dim), 0 where there is none
        :param previous_rewards: r_t-1, of shape (T, n, 1), 0 where there is none
        :param state: before the first of them
        :return: features of shape (T, n, n_outputs), and the state after the last
        """
        n_steps, n = previous_actions.shape[:2]
        flat = each(lambda part: part.flatten(0, 1), observations)
        features = self.extractor(preprocess_obs(flat, self.observation_space, normalize_images=self.normalize_images))
        features = features.view(n_steps, n, -1)
        inputs = [features]
        if self.previous_action:
            inputs.append(previous_actions.to(features.dtype))
        if self.previous_reward:
            inputs.append(previous_rewards.to(features.dtype))
        outputs, new = self.cell(th.cat(inputs, dim=2), state if self.n_states == 2 else state[0])
        return th.cat([outputs, features], dim=2), new if self.n_states == 2 else (new,)
