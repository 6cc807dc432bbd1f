"""Every pair of options goes together: it trains, is saved, loaded, acts alike and learns on."""

import itertools
import random

import numpy as np
import pytest
import torch as th

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import Episode
from sb3_ddpg_ext.networks import output_layer
from sb3_ddpg_ext.policies.options import Options

P, M, B = "policy_kwargs", "model", "replay_buffer_kwargs"
DEMONSTRATIONS = [Episode(np.ones((31, 3), np.float32), np.zeros((30, 1)), np.zeros(30), False)]
# (where, name) -> values, the neutral one first; False stands for "not given".
FACTORS = {
    (P, "actor_norm"): ["none", "layer", "batch", "batch-renorm"],
    (P, "critic_norm"): ["none", "layer", "batch", "batch-renorm"],
    (P, "input_norm"): ["none", "layer", "batch", "batch-renorm"],
    (P, "target_statistics"): ["running", "batch"],
    (P, "norm_after_action"): [True, False],
    (P, "init"): ["torch", "orthogonal", "xavier", "fan_in", dict(kind="normal", std=0.05)],
    (P, "last_init"): [None, 3e-3, dict(kind="orthogonal", gain=0.01)],
    (P, "activation_fn"): ["relu", "tanh", "elu", "silu", "mish"],
    (P, "residual"): [False, True],
    (P, "action_layer"): [0, 1],
    (P, "action_branch"): [(), [4]],
    (P, "action_join"): ["concat", "sum"],
    (P, "critic_dropout"): [0.0, 0.1],
    (P, "normalize_observations"): [False, True],
    (P, "scale_returns"): [False, True],
    (P, "popart"): [False, True],
    (P, "critic"): ["scalar", dict(kind="categorical", n_atoms=11), dict(kind="quantile", n_quantiles=5)],
    (P, "critic_loss"): ["mse", "huber"],
    (P, "n_critics"): [1, 2, 3],
    (P, "backup"): ["min", "mean"],
    (P, "objective"): ["first", "mean", "min"],
    (P, "target_q_range"): [None, (-20, 0)],
    (P, "target_networks"): [True, False],
    (P, "critic_weight_decay"): [0.0, 1e-2],
    (P, "decoupled_weight_decay"): [False, True],
    (P, "optimizer_class"): [th.optim.Adam, th.optim.AdamW],
    (P, "inverting_gradients"): [False, True],
    (P, "output_norm"): [None, 1.0],
    (P, "dqda_clip"): [None, 1.0],
    (P, "preactivation_penalty"): [0.0, 1e-3],
    (P, "action_l2"): [0.0, 0.1],
    (P, "actor_average"): [0.0, 0.01],
    (P, "behaviour_cloning"): [0.0, 0.1],
    (P, "q_filter"): [True, False],
    (M, "policy_delay"): [1, 2],
    (M, "target_policy_noise"): [0.0, 0.2],
    (M, "target_update_interval"): [None, 3],
    (M, "max_grad_norm"): [None, 0.5],
    (M, "n_steps"): [1, 3],
    (B, "sampling"): ["uniform", "prioritized", dict(kind="uniform", replacement=False)],
    (B, "combined"): [False, True],
    (B, "demonstrations"): [None, DEMONSTRATIONS],
    (M, "qf_learning_rate"): [None, "lin_1e-3"],
    (M, "action_noise"): [None, "normal_0.1", "adaptive-param_0.2"],
    (M, "learner"): ["auto", "eager"],
}
KEYS = list(FACTORS)
ALL_PAIRS = {
    ((a, i), (b, j))
    for a, b in itertools.combinations(range(len(KEYS)), 2)
    for i in range(len(FACTORS[KEYS[a]]))
    for j in range(len(FACTORS[KEYS[b]]))
}


def kind(value):
    return value["kind"] if isinstance(value, dict) else value


def contradicts(first, second):
    """Whether Options refuses these two together."""
    values = {KEYS[a][1]: FACTORS[KEYS[a]][i] for a, i in (first, second)}
    distributional = kind(values.get("critic", "scalar")) != "scalar"
    return (
        (distributional and values.get("critic_loss") == "huber")
        or (kind(values.get("critic")) == "categorical" and values.get("popart") is True)
        or (values.get("popart") is True and values.get("target_networks") is False)
        or (values.get("inverting_gradients") is True and values.get("output_norm") is not None)
        or (values.get("behaviour_cloning") == 0.1 and values.get("demonstrations", True) is None)
        or (values.get("residual") is True and values.get("norm_after_action") is False)
        or (values.get("action_join") == "sum" and values.get("action_layer") == 0)
        or (values.get("decoupled_weight_decay") is True and values.get("critic_weight_decay") == 0)
    )


REFUSED = {pair for pair in ALL_PAIRS if contradicts(*pair)}
PAIRS = ALL_PAIRS - REFUSED


def covering_array():
    """Rows of choices in which each pair appears, found greedily from random candidates."""
    rng, missing, rows = random.Random(0), set(PAIRS), []
    while missing:
        best, gain, pool = None, -1, sorted(missing)
        for _ in range(8):
            row = complete(dict(rng.choice(pool)), rng)
            covered = len(missing & pairs_of(row))
            if covered > gain:
                best, gain = row, covered
        rows.append(best)
        missing -= pairs_of(best)
    return rows


def complete(row, rng):
    """A choice for each factor that contradicts none of the others."""
    for a in rng.sample(range(len(KEYS)), len(KEYS)):
        if a not in row:
            choices = range(len(FACTORS[KEYS[a]]))
            row[a] = rng.choice([i for i in choices if not any(tuple(sorted([(a, i), o])) in REFUSED for o in row.items())])
    return row


def pairs_of(row):
    return set(itertools.combinations(sorted(row.items()), 2))


ROWS = covering_array()


def test_all_pairs_are_covered():
    """Each pair of values that may go together is in a row, and no row has a pair that may not."""
    assert set().union(*map(pairs_of, ROWS)) == PAIRS
    assert len(PAIRS) > 2000


def test_all_options_are_factors():
    """An option that is added to the policy wants a place here."""
    assert {name for where, name in FACTORS if where == P} >= set(Options.__dataclass_fields__)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[str(i) for i in range(len(ROWS))])
def test_a_row(row, tmp_path):
    """200 steps; what is loaded acts as what was saved, bit for bit, and learns on without a number that is not finite."""
    chosen = {KEYS[a]: FACTORS[KEYS[a]][i] for a, i in row.items()}
    policy_kwargs = {name: value for (where, name), value in chosen.items() if where == P} | dict(net_arch=[12, 12])
    arguments = {name: value for (where, name), value in chosen.items() if where == M}
    arguments["replay_buffer_kwargs"] = {name: value for (where, name), value in chosen.items() if where == B}
    model = DDPG(
        "MlpPolicy", "Pendulum-v1", policy_kwargs=policy_kwargs, learning_starts=60, batch_size=16, buffer_size=500, seed=0,
        device="cpu", **arguments,
    )  # fmt: skip
    outputs = [output_layer(net) for net in model.policy.critic.q_networks]
    assert {layer.out_features for layer in outputs} == {model.policy.critic.head.n_outputs}
    model.learn(200)
    assert model._n_updates == 140
    model.save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env="Pendulum-v1", device="cpu")
    observations = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    actions = model.predict(observations)[0]
    assert np.array_equal(actions, loaded.predict(observations)[0])
    state = loaded.policy.state_dict()
    assert all(th.equal(value, state[name]) for name, value in model.policy.state_dict().items())
    loaded.learning_starts = 0
    loaded.learn(40)
    assert loaded._n_updates > model._n_updates
    assert all(value.isfinite().all() for value in loaded.policy.state_dict().values())
    assert np.isfinite(actions).all()


@pytest.mark.parametrize(("first", "second"), sorted(REFUSED))
def test_contradictions_are_refused(first, second):
    """What cannot go together is a ValueError that names one of the two."""
    chosen = {KEYS[a]: FACTORS[KEYS[a]][i] for a, i in (first, second)}
    arguments = {where: {name: value for (of, name), value in chosen.items() if of == where} for where in (P, B)}
    with pytest.raises(ValueError, match="|".join(name for _, name in chosen)):
        DDPG("MlpPolicy", "Pendulum-v1", **arguments)
