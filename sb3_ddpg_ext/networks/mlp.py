"""Multilayer perceptrons with normalisation, residual blocks, dropout and a late action."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stable_baselines3.common.torch_layers import create_mlp
from torch import nn

from sb3_ddpg_ext.networks.layers import LateAction, ResidualBlock, make_norm


@dataclass(frozen=True)
class MLP:
    """
    The shape of a network's hidden layers.

    :param net_arch: units of each hidden layer; with ``residual`` of each block, all alike
    :param activation_fn: class of the activation
    :param norm: between each hidden layer and its activation, a kind of :data:`~sb3_ddpg_ext.networks.NORMS` or what makes
        one
    :param input_norm: the same, of the observations' features
    :param residual: residual blocks behind a first linear layer, and a normalisation behind them
    :param dropout: share of hidden units that are left out in training, before the normalisation as in DroQ (Hiraoka et al.
        2022)
    """

    net_arch: list[int]
    activation_fn: type[nn.Module] = nn.ReLU
    norm: Any = "none"
    input_norm: Any = "none"
    residual: bool = False
    dropout: float = 0.0

    def build(self, n_inputs: int, n_outputs: int, last: nn.Module | None = None) -> nn.Sequential:
        """
        :param n_inputs: features that go in
        :param n_outputs: of the last linear layer; 0 for none
        :param last: put behind it
        """
        modules = [*self._input_norm(n_inputs), *self._layers(n_inputs, n_outputs)]
        return nn.Sequential(*modules, *([] if last is None else [last]))

    def build_with_action(
        self, n_features: int, action_dim: int, n_outputs: int, layer: int = 0, branch: list[int] | None = None,
        norm_after: bool = True, join: str = "concat",
    ) -> nn.Module:  # fmt: skip
        """
        A critic's network, from (batch, n_features + action_dim) to (batch, n_outputs).

        :param layer: the hidden layer, counted from 0, to whose inputs the actions are joined
        :param branch: hidden units of the actions' own layers before that
        :param norm_after: normalise these, later and the actions' own layers too
        :param join: ``"concat"``: beside what comes out of the layer before; ``"sum"``: added to it before its activation, by
            one more layer of the actions' own, as wide as it
        """
        norm = self.norm if norm_after else "none"
        if layer == 0 and not branch and self.input_norm == "none" and norm is self.norm:
            return self.build(n_features + action_dim, n_outputs)
        before, after = self.net_arch[:layer], self.net_arch[layer:]
        first = replace(self, net_arch=before).build(n_features, 0)
        behind = replace(self, net_arch=after, input_norm="none", norm=norm)
        sums = join == "sum"
        branch = [*(branch or []), *(before[-1:] if sums else [])]
        own = replace(behind, net_arch=branch, residual=False).build(action_dim, 0) if branch else None
        if sums:
            first = first if self.residual else nn.Sequential(*list(first)[:-1])  # the activation follows the sum
            rest = nn.Sequential(self.activation_fn(), *behind.build(before[-1], n_outputs))
        else:
            n_inputs = (before[-1] if before else n_features) + (branch[-1] if branch else action_dim)
            rest = behind.build(n_inputs, n_outputs)
        return LateAction(first, rest, own, action_dim, sums)

    def _input_norm(self, n_inputs: int) -> list[nn.Module]:
        norm = make_norm("input_norm", self.input_norm)
        return [] if norm is None else [norm(n_inputs)]

    def _layers(self, n_inputs: int, n_outputs: int) -> list[nn.Module]:
        if self.residual and self.net_arch:
            return self._blocks(n_inputs, n_outputs)
        dropout, norm = partial(_dropout, self.dropout), make_norm("norm", self.norm)
        between: list[Callable] = [make for make in (dropout if self.dropout else None, norm) if make is not None]
        return create_mlp(n_inputs, n_outputs, self.net_arch, self.activation_fn, post_linear_modules=between)  # type: ignore[arg-type]

    def _blocks(self, n_inputs: int, n_outputs: int) -> list[nn.Module]:
        units = self.net_arch[0]
        norm = make_norm("norm", self.norm) or nn.LayerNorm
        blocks = [ResidualBlock(units, self.activation_fn, norm, self.dropout) for _ in self.net_arch]
        return [nn.Linear(n_inputs, units), *blocks, norm(units), *([nn.Linear(units, n_outputs)] if n_outputs else [])]


def _dropout(share: float, n_units: int) -> nn.Module:
    return nn.Dropout(share)
