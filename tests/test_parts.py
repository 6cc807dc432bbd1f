"""The parts of DDPG, each by itself: parser, explorer, collector, recipe, trainer."""

import copy
import dataclasses
import re
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.buffers import SequenceReplayBuffer, TransitionReplayBuffer, takes_argument
from sb3_ddpg_ext.collector import Collector
from sb3_ddpg_ext.explorer import Explorer, is_same_noise
from sb3_ddpg_ext.kinds import Kinds, number_of
from sb3_ddpg_ext.learners import LEARNERS, EagerLearner, UpdateSettings
from sb3_ddpg_ext.noise import NOISES, CombinedNoise, GaussianNoise, Noise, UniformMixing, make_action_noise
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.recipe import Recipe
from sb3_ddpg_ext.replay import as_replay
from sb3_ddpg_ext.trainer import Trainer

OBS, ACTIONS = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(-2, 2, (1,), np.float32)


@dataclasses.dataclass
class Shape:
    """What the family below makes."""

    size: float
    colour: str = "red"
    owner: str = "nobody"


@pytest.fixture
def shapes():
    family = Kinds("a shape", accepts=lambda spec: isinstance(spec, Shape), by_the_library=("owner",))
    family.register("round")(Shape)
    family.register("round-blue", colour="blue")(Shape)
    family.register("fan_in")(lambda size=3.0: Shape(size, "green"))
    return family


class TestKinds:
    @pytest.mark.parametrize(
        ("spec", "made"),
        [
            ("round_2", Shape(2.0)),
            (" round_2.5 ", Shape(2.5)),
            ("round-blue_1", Shape(1.0, "blue")),
            ("fan_in", Shape(3.0, "green")),
            ("fan_in_4", Shape(4.0, "green")),
            (dict(kind="round", size=2, colour="black"), Shape(2, "black")),
        ],
        ids=str,
    )
    def test_forms(self, shapes, spec, made):
        """A name, a name with numbers, a dict with arguments; a name may have an underscore itself."""
        assert shapes.make("shape", spec) == made

    def test_objects_stay(self, shapes):
        """One of a user's own is taken as it is."""
        mine = Shape(7.0)
        assert shapes.make("shape", mine) is mine

    def test_what_the_library_gives(self, shapes):
        """It goes to the kinds that name it, and a user cannot give it."""
        assert shapes.make("shape", "round_1", owner="ours").owner == "ours"
        assert shapes.make("shape", "fan_in", owner="ours").owner == "nobody"
        with pytest.raises(ValueError, match=r"'round' has no argument 'owner'; it has \['size', 'colour'\]"):
            shapes.make("shape", dict(kind="round", size=1, owner="mine"))

    @pytest.mark.parametrize(
        ("spec", "error", "words"),
        [
            ("square", ValueError, "shape='square': the kind 'square' is unknown; the kinds are round,"),
            ("round", ValueError, "shape='round': 'round' needs a value behind it, such as 'round_0.1'"),
            ("ruond_2", ValueError, "the kind 'ruond' is unknown, did you mean 'round_2'\\? The kinds are round,"),
            ("round_two", ValueError, "could not convert"),
            (dict(size=1), ValueError, "the kind None is unknown"),
            (dict(kind=["round"]), ValueError, r"the kind \['round'\] is unknown"),
            (3, TypeError, "shape=3 must be a shape"),
        ],
        ids=str,
    )
    def test_wrong_specs(self, shapes, spec, error, words):
        """The message names argument, value and what is allowed."""
        with pytest.raises(error, match=words):
            shapes.make("shape", spec)

    def test_a_name_is_given_once(self):
        """A kind does not take another one's place unseen, nor that of a string with a meaning; a name can be taken away."""
        family = Kinds("a shape", accepts=lambda spec: isinstance(spec, Shape), reserved=("auto",))
        family.register("round")(Shape)
        for kind in ("round", "auto"):
            with pytest.raises(ValueError, match=rf"kind='{kind}' must be a name that is not taken; .*\['round', 'auto'\]"):
                family.register(kind)(Shape)
        assert family.unregister("round") is Shape
        assert list(family) == []
        with pytest.raises(ValueError, match=r"kind='round' must be one of \[\]"):
            family.unregister("round")
        family.register("round", size=2.0)(Shape)
        assert family.make("shape", "round") == Shape(2.0)

    @pytest.mark.parametrize(("family", "kind"), [(LEARNERS, "auto"), (LEARNERS, "eager"), (NOISES, "none"), (NOISES, "ou")])
    def test_names_of_ours_are_taken(self, family, kind):
        before = dict(family)
        with pytest.raises(ValueError, match=f"kind='{kind}' must be a name that is not taken"):
            family.register(kind)(Shape)
        assert dict(family) == before

    @pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), (" 2 ", 2.0), ("1_000", None), ("lin", None), (3, None)])
    def test_numbers(self, text, number):
        """As YAML reads them, not as Python does."""
        assert number_of(text) == number


class TestExplorer:
    def explore(self, explorer, noise, num_timesteps, n_random=10, noise_in_warmup=False):
        act, draw = lambda perturbed: np.full((2, 1), 0.25, np.float32), lambda: np.full((2, 1), -0.5, np.float32)
        return explorer.explore(act, draw, noise, n_random, noise_in_warmup, 1.0, num_timesteps).tolist()

    def test_warm_up(self):
        """Random at first, without the noise unless that is asked for; then the policy, with noise."""
        noise, explorer = GaussianNoise(0.0, mean=0.125).prepare(1, 2, 0), Explorer()
        assert self.explore(explorer, noise, 9) == [[-0.5]] * 2
        assert self.explore(explorer, noise, 9, noise_in_warmup=True) == [[-0.375]] * 2
        assert self.explore(explorer, noise, 10) == [[0.375]] * 2
        assert self.explore(explorer, None, 10) == [[0.25]] * 2

    def test_actions_stay_within_the_bounds(self):
        """The log says how many are there."""
        explorer = Explorer()
        self.explore(explorer, GaussianNoise(0.0, mean=5.0).prepare(1, 2, 0), 10)
        self.explore(explorer, None, 10)
        assert explorer.statistics(None) == {"at_bounds": 0.5}
        assert explorer.statistics(None) == {}

    def test_a_noise_of_sb3(self):
        """It is added, and is asked through one adapter, which is made once."""
        explorer, theirs = Explorer(), NormalActionNoise(np.full(1, 0.5), np.zeros(1))
        adapted = explorer.noise_of(theirs)
        assert explorer.noise_of(theirs) is adapted
        assert self.explore(explorer, adapted, 10) == [[0.75]] * 2
        assert explorer.statistics(theirs)["sigma"] == 0

    @pytest.mark.parametrize("shape", [(1, 1), (2, 3), (2,)])
    def test_a_noise_of_another_shape(self, shape):
        """It is named, also as a part of several; the actions of some environments do not become those of all."""
        wrong = type("Wrong", (Noise,), dict(apply=lambda self, actions: np.zeros(shape, np.float32)))
        for noise in (wrong(), CombinedNoise([GaussianNoise(0.1), wrong()])):
            words = rf"action_noise=Wrong\(\): Wrong\.apply gave the shape {re.escape(str(shape))}; it must .* \(2, 1\)"
            with pytest.raises(ValueError, match=words):
                self.explore(Explorer(), noise.prepare(1, 2, 0), 10)


class Walk(Noise):
    """A walk, whose state has a public name that there is since it was prepared."""

    def __init__(self, step=0.1):
        super().__init__()
        self.step = step

    def _prepare(self, episode_length):
        self.place = np.zeros((self.n_envs, self.action_dim))

    def apply(self, actions):
        self.place += self.step
        return actions + self.place


class Counting(Walk):
    """Has a public state from the beginning, against the docstring of Noise."""

    def __init__(self, step=0.1):
        super().__init__(step)
        self.n = 0

    def apply(self, actions):
        self.n += 1
        return super().apply(actions)


NOISES_ON_THE_WAY = [
    *("normal_0.1", "ou_0.2", "pink_0.3", "red_0.3", "param_0.1", "adaptive-param_0.2", "epsilon_0.1"),
    *("normal_lin_0.5_0.05", "ou_0.2,epsilon_0.1", dict(kind="coloured", sigma=0.3, beta=0.5)),
    dict(kind="correlated", covariance=[[0.04]]), Walk(), CombinedNoise([Walk(), UniformMixing(0.1)]),
]  # fmt: skip


class TestSameNoise:
    """Whether a noise that is given once more is that of a checkpoint, which goes on."""

    @pytest.mark.parametrize("spec", NOISES_ON_THE_WAY, ids=str)
    def test_it_is_known_again_on_its_way(self, spec):
        """State does not count: it is in names with an underscore in front, or comes with the environments."""
        noise = make_action_noise(copy.deepcopy(spec), 1).prepare(1, 2, 0)
        for n in range(3):
            noise.set_progress(1 - n / 10, n)
            noise.apply(np.zeros((2, 1)))
        assert is_same_noise(spec, noise, 1)

    def test_every_kind_is_tried(self):
        parts = [part for spec in NOISES_ON_THE_WAY for part in (spec.split(",") if isinstance(spec, str) else [spec])]
        assert {NOISES.kind_of(part) for part in parts} == {*NOISES, None}  # an object has no kind

    def test_other_arguments_are_another_noise(self):
        """So is another class, another number of parts, and one whose constructor makes a public state."""
        assert not is_same_noise(Walk(0.2), Walk(0.1).prepare(1, 2, 0), 1)
        assert not is_same_noise("normal_0.1", make_action_noise("normal_0.2", 1).prepare(1), 1)
        assert not is_same_noise(Walk(), Counting().prepare(1), 1)
        assert not is_same_noise("normal_0.1", make_action_noise("normal_0.1,epsilon_0.1", 1).prepare(1), 1)
        assert not is_same_noise("none", Walk().prepare(1), 1)
        counting = Counting().prepare(1)
        assert is_same_noise(Counting(), counting, 1)
        counting.apply(np.zeros((1, 1)))
        assert not is_same_noise(Counting(), counting, 1)


def test_the_collector_names_what_is_wrong():
    """Before anything is stored."""
    env = make_vec_env("Pendulum-v1", n_envs=2)
    collector = Collector(env, env.observation_space, None)
    good = np.zeros((2, 3), np.float32), np.zeros(2), np.zeros(2, bool), [{}, {}]
    collector.check_step(*good)
    with pytest.raises(ValueError, match="reward"):
        collector.check_step(good[0], np.array([0, np.nan]), *good[2:])
    with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
        collector.check_step(np.zeros((2, 4), np.float32), *good[1:])
    ended = np.array([True, False]), [{"terminal_observation": np.full(3, np.inf)}, {}]
    with pytest.raises(ValueError, match="terminal_observation"):
        collector.check_step(*good[:2], *ended)


def recipe(buffer_class=TransitionReplayBuffer, given=None, n_steps=1):
    fixed = dict(buffer_size=20, observation_space=OBS, action_space=ACTIONS, device=th.device("cpu"), n_envs=2)
    return Recipe.of(buffer_class, given or {}, None, None, n_steps, 0.9, optimize_memory_usage=False, **fixed)


class TestRecipe:
    def test_it_makes_buffers(self):
        """By the model's settings, of any size, and it cannot be changed."""
        made = recipe(given=dict(sampling="prioritized"), n_steps=3)
        buffer = made.make_first()
        assert (buffer.buffer_size, buffer.n_envs, buffer.n_steps, buffer.gamma) == (10, 2, 3, 0.9)
        assert made.make(7, 1).buffer_size == 7
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.buffer_size = 3

    def test_a_folder_in_use(self, tmp_path):
        """A loaded model begins with an empty buffer in memory where another process has its folder."""
        made = recipe(given=dict(path=str(tmp_path)))
        first = made.make_first()
        assert first.is_on_disk
        with pytest.warns(UserWarning, match="must not be used by another replay buffer.*empty one in memory"):
            assert not made.make_for_loaded(may_train=True).is_on_disk
        assert not made.make_for_loaded(may_train=False).is_on_disk

    def test_sb3s_buffers(self):
        """They are made, too, and are used through one adapter."""
        buffer = recipe(ReplayBuffer).make_first()
        buffer.add(*[np.zeros((2, 3))] * 2, np.zeros((2, 1)), np.ones(2), np.zeros(2), [{}, {}])
        batch = as_replay(buffer).batch(4, None, gamma=0.5)
        assert type(batch) is Batch
        assert batch.discounts.flatten().tolist() == [0.5] * 4
        with pytest.raises(ValueError, match="sampling"):
            recipe(ReplayBuffer, dict(sampling="prioritized"))


class Pictures(gym.Env):
    """Black ones."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, seed=None, options=None):
        return np.zeros((36, 36, 1), np.uint8), {}


class Narrow(TransitionReplayBuffer):
    """One of ours with the signature of Stable-Baselines3's, and no further arguments."""

    def __init__(self, buffer_size, observation_space, action_space, device="auto", n_envs=1, optimize_memory_usage=False,
                 bonus=0.0):  # fmt: skip
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, optimize_memory_usage)
        self.bonus = bonus


class Wide(TransitionReplayBuffer):
    """One that passes everything on."""

    def __init__(self, *args, bonus=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.bonus = bonus


class TestArgumentsOfOnesOwn:
    """A subclass of ours is given what its constructor takes."""

    def test_what_is_passed_on(self):
        """By kwargs, to the first class that names it."""
        assert takes_argument(Wide, "n_steps")
        assert takes_argument(SequenceReplayBuffer, "keep_float64")
        assert not takes_argument(Wide, "bounds")
        assert not takes_argument(type("Narrower", (Narrow,), {}), "n_steps")

    def test_a_narrow_one_is_made(self):
        """Without what it does not take, also with frames and VecNormalize; longer returns are an error that names it."""
        films = VecFrameStack(make_vec_env(Pictures, 2), 4)
        for policy, env in (("MlpPolicy", VecNormalize(make_vec_env("Pendulum-v1", 2))), ("CnnPolicy", films)):
            model = DDPG(policy, env, replay_buffer_class=Narrow, replay_buffer_kwargs=dict(bonus=1.0), buffer_size=20)
            assert (type(model.replay_buffer), model.replay_buffer.bonus) == (Narrow, 1.0)
        with pytest.raises(ValueError, match="n_steps=3 must be 1 with Narrow, which takes no argument n_steps"):
            recipe(Narrow, n_steps=3)
        assert recipe(Wide, dict(bonus=2.0), n_steps=3).make_first().n_steps == 3


class Samples(NamedTuple):
    """What a buffer of a user's own may give."""

    observations: th.Tensor
    actions: th.Tensor
    next_observations: th.Tensor
    dones: th.Tensor
    rewards: th.Tensor
    weights: th.Tensor | None = None
    indices: np.ndarray | None = None


class TestSamplesOfOnesOwn:
    """From a replay buffer that is none of ours."""

    def samples(self, **changes):
        column = th.zeros(4, 1)
        return Samples(th.zeros(4, 3), column, th.zeros(4, 3), column, column)._replace(**changes)

    def test_without_discounts(self):
        """Samples need not have the field: older versions of Stable-Baselines3 have none."""
        batch = Batch.from_samples(self.samples(weights=th.ones(4, 1)), gamma=0.5)
        assert batch.discounts.flatten().tolist() == [0.5] * 4
        assert batch.weights.flatten().tolist() == [1.0] * 4

    @pytest.mark.parametrize("name", ["weights", "rewards", "dones"])
    def test_rows_in_place_of_columns(self, name):
        """Each would be combined with all the others."""
        with pytest.raises(ValueError, match=rf"samples have {name} of the shape \(4,\), not \(4, 1\)"):
            Batch.from_samples(self.samples(**{name: th.ones(4)}), gamma=0.5)

    def test_errors_that_nobody_takes(self):
        """A buffer that gives indices asks for errors, and must take them."""
        samples = self.samples(indices=np.arange(4))

        class Deaf(ReplayBuffer):
            def sample(self, batch_size, env=None):
                return samples

        buffer = recipe(Deaf).make_first()
        with pytest.raises(ValueError, match=r"the samples of Deaf have indices.*update_priorities\(indices, errors\)"):
            as_replay(buffer).batch(4, None, 0.9)
        Deaf.update_priorities = lambda self, rows, errors: None
        assert as_replay(buffer).batch(4, None, 0.9).indices is samples.indices


def test_the_trainer():
    """It draws, updates, tells the errors on, and logs the means of the losses."""
    policy = DDPGPolicy(OBS, ACTIONS, lambda _: 1e-3, net_arch=[8])
    trainer, logger = Trainer(policy), Logger(None, [])
    trainer.choose("eager", UpdateSettings(tau=0.1))
    assert (type(trainer.learner), trainer.learner_name, trainer.learner.settings.tau) == (EagerLearner, "eager", 0.1)
    drawn, told = [], []

    def draw(n):
        column = th.zeros(n, 1)
        drawn.append(n)
        return Batch(th.zeros(n, 3), column, th.zeros(n, 3), column, column + 1, column + 0.9, indices=np.arange(n))

    trainer.train(0, 3, 8, draw, lambda rows, errors: told.append((len(rows), len(errors))), None)
    assert (drawn, told) == ([8] * 3, [(8, 8)] * 3)
    trainer.record(logger, 3)
    assert logger.name_to_value["train/n_updates"] == 3
    assert {"train/critic_loss", "train/actor_loss", "train/learning_rate"} <= set(logger.name_to_value)


@pytest.mark.parametrize("wrong", [dict(tau=1.5), dict(policy_delay=0), dict(target_policy_noise=-1), dict(precision="half")])
def test_settings_are_checked(wrong):
    """By their names."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UpdateSettings(**wrong)


class Overridden(DDPG):
    """A user's own, with the methods of Stable-Baselines3 that their subclasses change."""

    def __init__(self, *args, **kwargs):
        self.calls = dict.fromkeys(HOOKS, 0)
        super().__init__(*args, **kwargs)


HOOKS = ("_sample_action", "collect_rollouts", "_store_transition", "train", "_on_step", "dump_logs", "_setup_learn",
         "_update_info_buffer", "predict", "save_replay_buffer", "load_replay_buffer", "set_random_seed",
         "_excluded_save_params", "_get_torch_save_params")  # fmt: skip


def counted(name):
    def method(self, *args, **kwargs):
        self.calls[name] += 1
        return getattr(super(Overridden, self), name)(*args, **kwargs)

    return method


for hook in HOOKS:
    setattr(Overridden, hook, counted(hook))


def test_sb3s_methods_can_be_overridden(tmp_path):
    """Each of them is still what the training goes through."""
    model = Overridden("MlpPolicy", "Pendulum-v1", learning_starts=10, batch_size=8, buffer_size=500, seed=0, device="cpu",
                       policy_kwargs=dict(net_arch=[8]))  # fmt: skip
    model.learn(420, log_interval=1)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    assert [name for name in HOOKS if not model.calls[name]] == []
    assert model.calls["_sample_action"] == model.calls["_store_transition"] == model.calls["_on_step"] == 420
    assert model.calls["train"] == 410
