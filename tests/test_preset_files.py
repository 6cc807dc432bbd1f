"""Every number that a preset's source states, written down here by hand, is that of the model which the preset builds."""

import re
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
import rl_zoo3.import_envs  # noqa: F401  # the tasks without velocities
import torch as th
import yaml
from torch import nn

from sb3_ddpg_ext.cli.bench.buffers import Goals
from sb3_ddpg_ext.experiment import make_experiment, merge
from sb3_ddpg_ext.networks.layers import output_layer
from sb3_ddpg_ext.noise import CombinedNoise
from sb3_ddpg_ext.presets import hyperparams_folder
from sb3_ddpg_ext.schedules import Exponential, Linear, Piecewise
from sb3_ddpg_ext.zoo import CLASSES

FOLDER = hyperparams_folder() / "presets"
PRESETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
BLOCKS = [(name, block) for name, preset in PRESETS.items() for block in preset if block != "about"]
NOT_IN_TESTS = "Bullet|^Panda|^Fetch|^dm_control/|^LunarLander|^BipedalWalker"  # tasks of packages that need not be there

if "PendulumGoals-v0" not in gym.registry:
    make = lambda **kwargs: Goals(gym.make("Pendulum-v1").unwrapped)  # noqa: E731
    gym.register("PendulumGoals-v0", make, max_episode_steps=50, disable_env_checker=True)

# A task of each preset that is always there; all but those of her, which are of packages that need not be, are its own.
TASKS = {
    "baselines": "HalfCheetah-v5",
    "cleanrl": "Hopper-v5",
    "d4pg": "Walker2d-v5",
    "dosssman": "MountainCarContinuous-v0",
    "her": "PendulumGoals-v0",
    "memory": "PendulumNoVel-v1",
    "modern": "HalfCheetah-v5",
    "paper": "Pendulum-v1",
    "paper_pixels": "Pendulum-v1",
    "r2d2": "PendulumNoVel-v1",
    "rl_adventure2": "Pendulum-v1",
    "spinningup": "HalfCheetah-v5",
    "tabor_tf2": "Pendulum-v1",
    "tabor_torch": "Pendulum-v1",
    "td3": "HalfCheetah-v5",
    "weekend": "MountainCarContinuous-v0",
}


def build(name, block=None, env_id=None, **overrides):
    """What a block makes, on its own task or another."""
    preset, env_id = PRESETS[name], env_id or TASKS[name]
    hyperparams = preset.get(block or env_id, preset["default"])
    algo = preset["about"]["algo"]
    return make_experiment(merge(hyperparams, overrides), env_id, algo=algo, seed=0, device="cpu")


@cache
def built(name, block=None):
    return build(name, block)


def layers(network):
    """Units of linear layers, filters of convolutions, and the names of what is between them."""
    parts = []
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            parts.append(getattr(module, "out_features", None) or f"{module.out_channels} filters")
        elif not list(module.children()) and not isinstance(module, nn.Flatten):
            parts.append(type(module).__name__)
    return parts


def noises(noise):
    """Classes, and the arguments that they were given."""
    if noise is None:
        return []
    own = ("sigma", "theta", "dt", "start", "epsilon", "target", "initial_sigma", "coefficient", "interval")
    parts = noise.parts if isinstance(noise, CombinedNoise) else [noise]
    return [(type(part).__name__, {name: vars(part)[name] for name in own if name in vars(part)}) for part in parts]


def facts(experiment):
    """What a source may state, read from the built objects."""
    model = experiment.model
    policy, buffer = model.policy, model.replay_buffer
    return dict(
        actor=layers(policy.actor.mu),
        critic=layers(policy.critic.q_networks[0]),
        n_critics=len(policy.critic.q_networks),
        lr=model.lr_schedule(1.0),
        qf_lr=model.qf_lr_schedule(1.0),
        adam_eps={group["eps"] for net in (policy.actor, policy.critic) for group in net.optimizer.param_groups},
        l2={group["weight_decay"] for group in policy.critic.optimizer.param_groups},
        gamma=model.gamma,
        tau=model.tau,
        batch=model.batch_size,
        buffer=buffer.buffer_size,
        replacement=getattr(buffer.sampling, "replacement", None),
        n_steps=buffer.n_steps,
        starts=model.learning_starts,
        random=model.learning_starts if model.random_steps is None else model.random_steps,
        every=(model.train_freq.frequency, model.train_freq.unit.value),
        updates=model.gradient_steps,
        delay=model.policy_delay,
        targets_every=model.target_update_interval or model.policy_delay,
        smoothing=(model.target_policy_noise, model.target_noise_clip if model.target_policy_noise else None),
        grad_norm=model.max_grad_norm,
        noise=noises(model.action_noise),
        steps=experiment.n_timesteps,
        episodes=next((callback.max_episodes for callback in experiment.callbacks if hasattr(callback, "max_episodes")), None),
    )


def relu(*units):
    return [part for n in units for part in (n, "ReLU")]


def normal(sigma):
    return [("GaussianNoise", dict(sigma=sigma))]


def ou(sigma, theta, dt, start=0.0):
    return [("OrnsteinUhlenbeckNoise", dict(sigma=sigma, theta=theta, dt=dt, start=start))]


# DDPG where a source says nothing else; its own values are over these.
PLAIN = dict(
    n_critics=1, adam_eps={1e-8}, l2={0.0}, gamma=0.99, buffer=1_000_000, replacement=True, n_steps=1, every=(1, "step"),
    updates=1, delay=1, targets_every=1, smoothing=(0.0, None), grad_norm=None, episodes=None,
)  # fmt: skip

PAPER = dict(
    lr=1e-4, qf_lr=1e-3, tau=1e-3, batch=64, starts=64, random=0, noise=ou(0.2, 0.15, 1.0), l2={0.0, 1e-2}, steps=50_000,
    actor=["BatchNorm1d", 400, "BatchNorm1d", "ReLU", 300, "BatchNorm1d", "ReLU", 1, "Tanh"],
    critic=["BatchNorm1d", 400, "BatchNorm1d", "ReLU", 300, "ReLU", 1],
)  # fmt: skip
TD3 = dict(
    actor=[*relu(400, 300), 6, "Tanh"], critic=[*relu(400, 300), 1], n_critics=2, lr=1e-3, qf_lr=1e-3, tau=5e-3, batch=100,
    starts=10_000, random=10_000, delay=2, targets_every=2, smoothing=(0.2, 0.5), noise=normal(0.1), steps=1_000_000,
)  # fmt: skip
D4PG = dict(
    actor=[part for n in (256,) * 3 for part in (n, "LayerNorm", "ELU")] + [6, "Tanh"],
    critic=[part for n in (256,) * 3 for part in (n, "LayerNorm", "ELU")] + [51],
    lr=3e-4, qf_lr=3e-4, tau=1.0, batch=256, n_steps=5, starts=1000, random=0, every=(8, "step"), targets_every=100,
    grad_norm=40.0, noise=normal(0.2), steps=1_000_000,
)  # fmt: skip
LANDER = dict(
    actor=[400, "LayerNorm", "ReLU", 300, "LayerNorm", "ReLU", 1, "Tanh"],
    critic=[400, "LayerNorm", "ReLU", 300, "LayerNorm", "ReLU", 1, 300, "ReLU"],  # the action's own layer stands last
    lr=2.5e-5, qf_lr=2.5e-4, tau=1e-3, batch=64, starts=64, random=0, noise=ou(0.15, 0.2, 0.01, "stationary"),
    steps=1_000_000, episodes=1000,
)  # fmt: skip
HER = dict(
    actor=[*relu(256, 256, 256), 1, "Tanh"], critic=[*relu(256, 256, 256), 1], lr=1e-3, qf_lr=1e-3, gamma=1 - 1 / 50,
    tau=1 - 0.95, batch=256, starts=99, random=0, every=(100, "step"), updates=40, targets_every=40,
    noise=[*normal(0.2), ("UniformMixing", dict(epsilon=0.3))], steps=1_000_000,
)  # fmt: skip

# (preset, block) -> what its source states, by its code or text; a block is built on the preset's task of TASKS.
R2D2 = dict(
    actor=[*relu(128), 1, "Tanh"], critic=[*relu(128), 1], lr=1e-4, qf_lr=1e-4, tau=1.0, batch=32, buffer=100_000,
    replacement=None, n_steps=5, starts=2000, random=2000, targets_every=2500, noise=normal(0.1), steps=100_000,
)  # fmt: skip
STATED = {
    ("weekend", "MountainCarContinuous-v0"): dict(
        actor=[50, "SiLU", 30, "SiLU", 1, "Tanh"], critic=[50, "SiLU", 30, "SiLU", 1], lr=1e-3, qf_lr=1e-3, gamma=0.995,
        tau=1 - 0.995, batch=256, buffer=8000, replacement=False, starts=0, random=0, smoothing=(0.2, 0.6),
        noise=[
            *normal(Exponential(0.2, 0.999)),
            ("UniformMixing", dict(epsilon=Piecewise([(0, 0.3), (100 * 999, 0)], over="steps", interpolation="constant"))),
        ],
        steps=300_000, episodes=300,
    ),
    ("dosssman", "MountainCarContinuous-v0"): dict(
        actor=[*relu(256, 256), 1, "Tanh"], critic=[*relu(256, 256), 1], lr=1e-3, qf_lr=1e-3, tau=5e-3, batch=256,
        starts=5000, random=5000, noise=normal(0.2), steps=100_000,
    ),
    ("rl_adventure2", "Pendulum-v1"): dict(
        actor=[*relu(256, 256), 1, "Tanh"], critic=[*relu(256, 256), 1], lr=1e-4, qf_lr=1e-3, tau=1e-2, batch=128,
        replacement=False, starts=128, random=0, noise=ou(Linear(0.3, 0.3, steps=100_000), 0.15, 1.0), steps=12_000,
    ),
    ("spinningup", "HalfCheetah-v5"): dict(
        actor=[*relu(256, 256), 6, "Tanh"], critic=[*relu(256, 256), 1], lr=1e-3, qf_lr=1e-3, tau=1 - 0.995, batch=100,
        starts=1000, random=10_000, every=(50, "step"), updates=50, noise=normal(0.1), steps=3_000_000,
    ),
    ("tabor_tf2", "Pendulum-v1"): dict(
        actor=[*relu(512, 512), 1, "Tanh"], critic=[*relu(512, 512), 1], lr=1e-3, qf_lr=2e-3, adam_eps={1e-7}, tau=5e-3,
        batch=64, replacement=False, starts=64, random=0, noise=normal(0.1), steps=250 * 200, episodes=250,
    ),
    ("tabor_torch", "LunarLanderContinuous-v3"): LANDER,
    ("tabor_torch", "BipedalWalker-v3"): LANDER | dict(lr=5e-5, qf_lr=5e-4, steps=5000 * 1600, episodes=5000),
    ("cleanrl", "Hopper-v5"): dict(
        actor=[*relu(256, 256), 3, "Tanh"], critic=[*relu(256, 256), 1], lr=3e-4, qf_lr=3e-4, tau=5e-3, batch=256,
        starts=25_000, random=25_000, delay=2, targets_every=2, noise=normal(0.1), steps=1_000_000,
    ),
    ("baselines", "HalfCheetah-v5"): dict(
        actor=[64, "Tanh", 64, "Tanh", 6, "Tanh"], critic=[64, "Tanh", 64, "Tanh", 1], lr=1e-4, qf_lr=1e-3, l2={0.0, 1e-2},
        tau=1e-2, batch=64, starts=64, random=0, every=(100, "step"), updates=50, steps=500 * 20 * 100,
        noise=[("AdaptiveParameterNoise", dict(target=0.2, initial_sigma=0.2, coefficient=1.01, interval=50))],
    ),
    ("td3", "HalfCheetah-v5"): TD3,
    ("td3", "Ant-v5"): TD3,
    ("td3", "Hopper-v5"): TD3 | dict(starts=1000, random=1000),
    ("td3", "Walker2d-v5"): TD3 | dict(starts=1000, random=1000),
    ("modern", "HalfCheetah-v5"): dict(
        actor=["BatchNorm1d", 256, "BatchNorm1d", "ReLU", 256, "BatchNorm1d", "ReLU", 6, "Tanh"],
        critic=["BatchNorm1d", 256, "BatchNorm1d", "ReLU", 256, "BatchNorm1d", "ReLU", 101],
        n_critics=2, lr=1e-3, qf_lr=1e-3, gamma=0.99, tau=0.005, batch=256,
        buffer=1_000_000, starts=5000, random=5000, delay=3, targets_every=3,
        n_steps=1, smoothing=(0.2, 0.5), noise=normal(0.2), steps=100_000, updates=1,
    ),
    ("d4pg", "Walker2d-v5"): D4PG,
    ("d4pg", "dm_control/walker-walk-v0"): D4PG | dict(
        actor=[300, "LayerNorm", "ELU", 200, "LayerNorm", "ELU", 6, "Tanh"],
        critic=[400, "LayerNorm", "ELU", 300, "LayerNorm", "ELU", 51], lr=1e-4, qf_lr=1e-4, noise=normal(0.3),
    ),
    ("her", "FetchReach-v4"): HER | dict(steps=20_000),
    ("her", "FetchPush-v4"): HER | dict(steps=50 * 50 * 38 * 50),
    ("r2d2", "default"): R2D2,
    ("r2d2", "PendulumNoVel-v1"): R2D2 | dict(
        lr=1e-3, qf_lr=1e-3, tau=0.005, targets_every=1, n_steps=1, steps=20_000
    ),
    ("paper", "Pendulum-v1"): PAPER,
    ("paper", "dm_control/walker-run-v0"): PAPER | dict(steps=2_500_000),
    ("paper_pixels", "Pendulum-v1"): PAPER | dict(
        actor=[*relu(200, 200), 1, "Tanh"], critic=[*relu(200, 200), 1], batch=16, buffer=100_000, starts=16, steps=100_000
    ),
}  # fmt: skip


def same(value, stated):
    if isinstance(stated, float):
        return value == pytest.approx(stated, rel=1e-9)
    return value == stated


@pytest.mark.parametrize(("name", "block"), STATED)
def test_every_number_is_the_sources(name, block):
    """The built model, not the YAML, has each number that the source states, and nothing beside what it says."""
    found, stated = facts(built(name, block)), PLAIN | STATED[name, block]
    assert set(found) == set(stated)
    assert {key: found[key] for key in found if not same(found[key], stated[key])} == {}


def test_no_preset_is_forgotten():
    """Each file has a row above, except for the one that is ours."""
    assert {name for name, _ in STATED} == set(PRESETS) - {"memory"}
    assert set(TASKS) == set(PRESETS)


def first_and_last(network):
    last = output_layer(network)
    return [module for module in network.modules() if isinstance(module, nn.Linear) and module is not last], last


def within(parameter, limit):
    """Uniform in [-limit, limit], as far as so many draws can tell."""
    largest = parameter.detach().abs().max().item()
    return (0.7 if parameter.numel() > 20 else 0.0) * limit <= largest <= limit


def is_xavier(layer):
    return within(layer.weight, (6 / sum(layer.weight.shape)) ** 0.5) and not layer.bias.any()


def is_fan_in(layer):
    limit = layer.weight[0].numel() ** -0.5
    return within(layer.weight, limit) and within(layer.bias, limit)


def is_normal(std):
    def check(layer):
        error = 4 / (2 * layer.weight.numel()) ** 0.5  # four standard errors
        return layer.weight.std().item() == pytest.approx(std, rel=error) and not layer.bias.any()

    return check


def is_orthogonal(layer):
    weight = layer.weight.detach()
    small = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    return th.allclose(small, 2 * th.eye(len(small)), atol=1e-4) and not layer.bias.any()


def is_small(limit):
    return lambda layer: within(layer.weight, limit) and within(layer.bias, limit)


INITIAL = {
    "weekend": (is_normal(0.1), is_normal(0.1)),
    "dosssman": (is_xavier, is_xavier),
    "rl_adventure2": (is_fan_in, is_small(3e-3)),
    "tabor_tf2": (is_xavier, is_xavier),
    "tabor_torch": (is_fan_in, is_small(3e-3)),
    "baselines": (is_orthogonal, is_small(3e-3)),
    "her": (is_xavier, is_xavier),
    "r2d2": (is_xavier, is_xavier),
    "d4pg": (is_fan_in, is_normal(0.01 / 256**0.5)),
    ("d4pg", "dm_control/walker-walk-v0"): (is_fan_in, is_normal(0.01 / 200**0.5)),
    "paper": (is_fan_in, is_small(3e-3)),
    "paper_pixels": (is_fan_in, is_small(3e-4)),
}


@pytest.mark.parametrize(("name", "block"), [(name, block) for name, block in STATED if name in INITIAL])
def test_weights_begin_as_the_source_says(name, block):
    """Distributions of the first weights and biases, in hidden layers and in the last."""
    every, last = INITIAL.get((name, block), INITIAL[name])
    policy = built(name, block).model.policy
    for net in (policy.actor.mu, policy.critic.q_networks[0]):
        hidden, output = first_and_last(net)
        assert all(map(every, hidden)), hidden
        assert last(output), output


def test_weekends_exploration():
    """
    0.2 * 0.999^n, 30% random actions for 100 episodes of 999 steps, scaled observations, time limits as terminal, and it
    stops when solved.
    """
    experiment = built("weekend")
    assert not experiment.model.replay_buffer.handle_timeout_termination
    noise = experiment.model.action_noise
    for n, epsilon in ((0, 0.3), (1000, 0.3), (99_899, 0.3), (99_900, 0.0)):
        noise.set_progress(1 - n / 300_000, n)
        assert noise.statistics() == pytest.approx({"sigma": 0.2 * 0.999**n, "epsilon": epsilon})
    space = experiment.model.observation_space
    assert (space.low == -1).all()
    assert (space.high == 1).all()
    solved, _ = experiment.callbacks
    assert (solved.n_episodes, solved.threshold) == (100, None)


def test_baselines_normalisation():
    """Observations are normalised and clipped at 5, returns are not; L2 is on hidden weights alone."""
    policy = built("baselines").model.policy
    assert policy.normaliser.clip == 5.0
    assert not policy.options.popart
    assert not policy.options.scale_returns
    (regularised,) = (group for group in policy.critic.optimizer.param_groups if group["weight_decay"])
    hidden, _ = first_and_last(policy.critic.qf0)
    assert {id(p) for p in regularised["params"]} == {id(layer.weight) for layer in hidden}


@pytest.mark.parametrize(("block", "bound"), [("Walker2d-v5", 1000.0), ("dm_control/walker-walk-v0", 150.0)])
def test_d4pgs_critic(block, bound):
    """51 atoms on a support by the suite, and dQ/da clipped at 1."""
    policy = built("d4pg", block).model.policy
    assert policy.critic.head.atoms.tolist() == pytest.approx(np.linspace(-bound, bound, 51).tolist())
    assert policy.options.dqda_clip == 1.0


@pytest.mark.parametrize("block", ["FetchReach-v4", "FetchPush-v4"])
def test_hers_replay_and_losses(block):
    """4 of 5 goals are of the future; targets within [-50, 0], L2 of actions 1, normalisation by 0.01 or more to 5 or less."""
    model = built("her", block).model
    assert (model.replay_buffer.n_sampled_goal, model.replay_buffer.goal_selection_strategy.name) == (4, "FUTURE")
    assert model.policy.options.target_q_range == pytest.approx([-1 / (1 - model.gamma), 0])
    assert model.policy.options.action_l2 == 1.0
    assert {(one.min_std, one.clip) for one in model.policy.normaliser.values()} == {(0.01, 5.0)}


def test_r2d2s_replay():
    """20 steps with 5 of burn-in, a segment each 10 steps, stored states, priorities with eta 0.9, no weights, LSTM of 128."""
    model = built("r2d2").model
    buffer = model.replay_buffer
    assert buffer.burn_in + buffer.sequence_length == 20
    assert (buffer.burn_in, buffer.stride, buffer.eta, buffer.stored_state) == (5, 20 - 10, 0.9, True)
    assert (buffer.sampling.alpha, buffer.sampling.beta) == (1.0, 0.0)
    assert model.actor.encoder.cell.hidden_size == model.critic.encoder.cell.hidden_size == 128


def test_the_papers_pixels():
    """Three convolutions of 32 filters on three RGB renderings of 64 x 64, about 430,000 parameters in a critic."""
    model = built("paper_pixels").model
    assert layers(model.actor.features_extractor) == ["32 filters", "ReLU"] * 3
    assert model.observation_space.shape == (9, 64, 64)
    assert sum(p.numel() for p in model.critic.parameters()) == pytest.approx(430_000, rel=0.1)


def test_dosssmans_parameter_noise():
    """The variant that the file gives as a command builds: perturbed actors with LayerNorm."""
    kwargs = dict(net_arch=[256, 256], init="xavier", actor_norm="layer", critic_norm="layer")
    text = (FOLDER / "dosssman.yml").read_text()
    assert "adaptive-param_0.2" in text
    assert "actor_norm='layer', critic_norm='layer'" in text
    model = build("dosssman", action_noise="adaptive-param_0.2", policy_kwargs=kwargs).model
    assert noises(model.action_noise)[0][1]["target"] == 0.2
    assert layers(model.actor.mu)[:3] == [256, "LayerNorm", "ReLU"]


# Fewer updates where one is slow; the numbers are tested above.
RARELY = {"paper_pixels": dict(train_freq=20), "r2d2": dict(train_freq=20, tau=0.5, target_update_interval=2)}


@pytest.mark.parametrize("name", PRESETS)
def test_trains_saves_and_loads(name, tmp_path):
    """300 steps on its own task change the actor, at the stated learning rates; what is loaded acts the same and learns on."""
    stated = facts(built(name))
    overrides = dict(learning_starts=min(stated["starts"], 100), buffer_size=1000, n_timesteps=300)
    experiment = build(name, **overrides, **RARELY.get(name, {}))
    model = experiment.model
    before = [p.clone() for p in model.actor.parameters()]
    model.learn(experiment.n_timesteps, callback=experiment.callbacks)
    assert model.num_timesteps >= 300
    assert model._n_updates > 0
    after = list(model.actor.parameters())
    assert any(not th.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(p.isfinite().all() for p in model.policy.parameters())
    for net, lr in ((model.actor, stated["lr"]), (model.critic, stated["qf_lr"])):
        assert {group["lr"] for group in net.optimizer.param_groups} == {lr}

    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.env, device="cpu")
    obs = model.env.reset()
    np.testing.assert_array_equal(loaded.predict(obs)[0], model.predict(obs)[0])
    loaded.learn(20, reset_num_timesteps=False)


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_every_block_builds_on_its_own_task(name, block):
    """Where the task is there; one whose package need not be there is skipped, any other has to exist."""
    env_id = TASKS[name] if block == "default" else block
    try:
        gym.make(env_id).close()
    except Exception as error:
        if not re.search(NOT_IN_TESTS, env_id):
            raise
        pytest.skip(f"{env_id} cannot be made here: {error}")
    kwargs = {} if block != "default" else dict(block="default")
    model = build(name, env_id=env_id, **kwargs).model
    assert type(model) is CLASSES[PRESETS[name]["about"]["algo"]]


# What seed documents and issues say of the sources' bugs and of what is open in them, and what the deviations say of it.
NAMED = {
    "weekend": ["randn", "decays at each action", "capacity", "infinite bounds"],
    "dosssman": ["policy's learning rate to the critic", "time limit", "drl-forge, which is not public"],
    "rl_adventure2": ["actor before the critic", "time limit", "infinite by default", "first dimension"],
    "spinningup": ["even if it failed with its last step", "environment's units"],
    "tabor_tf2": ["400 and 300 units and ignores them", "time limit", "65", "half of Pendulum's torque"],
    "tabor_torch": ["fan-out", "time limit", "never begins its noise anew"],
    "cleanrl": ["v4", "exploration noise"],
    "baselines": ["issue 436", "no layer normalisation by default", "MPI"],
    "td3": ["after each episode", "even if it failed"],
    "d4pg": ["many actors", "first layer alone", "next observations"],
    "her": ["19 workers", "no terminations"],
    "r2d2": [r"sum \+= reward \+ gamma", "dueling double DQN", "every fifth step"],
    "modern": ["stochastic", "2048 units", "renormalisation"],
    "paper": ["time step of the noise", "terminal states", "nearest of today"],
    "paper_pixels": ["37 GB", "misprints", "size of its convolutions"],
    "memory": [],
}


@pytest.mark.parametrize("name", PRESETS)
def test_about(name):
    """Source, claims, summary, algorithm and deviations are told, these in sentences, with the sources' bugs by name."""
    about = PRESETS[name]["about"]
    assert [key for key in about if key != "rules"] == ["source", "claims", "summary", "algo", "deviations"]
    assert all(isinstance(about[key], str) and about[key] for key in ("source", "claims", "summary", "algo"))
    assert "https://" in about["source"] or name == "memory"
    assert len(about["summary"]) <= 100
    assert about["algo"] in CLASSES
    assert all(re.fullmatch(r"[A-Z].*[^.]\.", sentence) for sentence in [*about["deviations"], *about.get("rules", [])])
    assert bool(about["deviations"]) == (name != "memory")
    told = " ".join(about["deviations"])
    assert [bug for bug in NAMED[name] if not re.search(bug, told)] == []


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_opens_with_about_and_has_a_default(name):
    """For tasks that have no block."""
    assert next(iter(PRESETS[name])) == "about"
    assert "default" in PRESETS[name]
