"""What actors and critics are built of: layers, initialisers, running statistics, and what a plain network is."""

from sb3_ddpg_ext.networks.initialise import initialise
from sb3_ddpg_ext.networks.layers import (
    ACTIVATIONS,
    NORMS,
    ActionGradientClip,
    InvertingGradients,
    LateAction,
    MakeNorm,
    OutputNormalisation,
    ResidualBlock,
    check_network,
    evaluating,
    is_norm,
    linear_layers,
    output_layer,
    uses_batch_statistics,
)
from sb3_ddpg_ext.networks.memory import SavedAlone
from sb3_ddpg_ext.networks.mlp import MLP
from sb3_ddpg_ext.networks.plain import (
    PLAIN_ACTIVATIONS,
    Layer,
    NotPlain,
    Snapshot,
    hooks_of,
    plain_layers,
    replaced_methods,
)
from sb3_ddpg_ext.networks.running import (
    Normalised,
    ObservationNormaliser,
    PopArt,
    ReturnScaler,
    normalise,
    without_normaliser,
)

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NORMS",
    "PLAIN_ACTIVATIONS",
    "ActionGradientClip",
    "InvertingGradients",
    "LateAction",
    "Layer",
    "MakeNorm",
    "Normalised",
    "NotPlain",
    "ObservationNormaliser",
    "OutputNormalisation",
    "PopArt",
    "ResidualBlock",
    "ReturnScaler",
    "SavedAlone",
    "Snapshot",
    "check_network",
    "evaluating",
    "hooks_of",
    "initialise",
    "is_norm",
    "linear_layers",
    "normalise",
    "output_layer",
    "plain_layers",
    "replaced_methods",
    "uses_batch_statistics",
    "without_normaliser",
]
