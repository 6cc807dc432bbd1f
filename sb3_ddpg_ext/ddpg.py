"""Deep Deterministic Policy Gradient as a Stable-Baselines3 algorithm."""

import warnings
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.patch_gym import _patch_env
from stable_baselines3.td3 import policies as sb3_policies

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.buffers import LossAdjusted, TransitionReplayBuffer
from sb3_ddpg_ext.diagnostics import Diagnostics
from sb3_ddpg_ext.exploration import Exploration
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.learners import LEARNERS, LossLog, choose_learner, has_amx, warn_if_oversubscribed
from sb3_ddpg_ext.networks import uses_batch_statistics
from sb3_ddpg_ext.policies import CnnPolicy, DDPGPolicy, MlpPolicy, MultiInputPolicy, PaperCnnPolicy, PaperPolicy
from sb3_ddpg_ext.policies.paper import PaperCnn
from sb3_ddpg_ext.schedules import evaluate
from sb3_ddpg_ext.specs import make_schedule
from sb3_ddpg_ext.validation import (
    ShapeCheck,
    check_action_space,
    check_choice,
    check_instance,
    check_integer,
    check_observation_space,
    check_real,
    check_train_freq,
)

SelfDDPG = TypeVar("SelfDDPG", bound="DDPG")

# The policies in a zip saved by Stable-Baselines3's DDPG or TD3, and ours with the same parameters.
EQUIVALENT_POLICIES: dict[type[BasePolicy], type[DDPGPolicy]] = {
    sb3_policies.TD3Policy: DDPGPolicy,
    sb3_policies.CnnPolicy: CnnPolicy,
    sb3_policies.MultiInputPolicy: MultiInputPolicy,
}
# Attributes in such a zip that mean nothing here.
TD3_ATTRIBUTES = tuple(f"{net}_batch_norm_stats{suffix}" for net in ("actor", "critic") for suffix in ("", "_target"))


class Plan(NamedTuple):
    """
    What ``learn()`` does without being told.

    :param n_timesteps: its length
    :param callbacks: beside those that it is given
    """

    n_timesteps: int
    callbacks: list[BaseCallback]


class DDPG(Exploration):
    """
    Deep Deterministic Policy Gradient, Lillicrap et al. (2016), https://arxiv.org/abs/1509.02971, Algorithm 1.

    Every argument of Stable-Baselines3's ``DDPG`` has the same name, default and meaning here; with those and
    ``noise_in_warmup=True`` the two take the same actions and learn the same parameters, bit for bit with ``learner="eager"``,
    to rounding with the others. What stands after ``_init_setup_model`` is added, and strings where a YAML file cannot hold an
    object. ``DDPG.load`` also reads what Stable-Baselines3's DDPG and TD3 have saved.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, ``"PaperPolicy"``, ``"PaperCnnPolicy"`` or a
        subclass of :class:`DDPGPolicy`
    :param env: a gymnasium environment or its id, or a ``VecEnv``, with a bounded ``Box`` action space
    :param learning_rate: of the actor, and of the critic too unless ``qf_learning_rate`` is given; a number, a function of the
        progress remaining (1 to 0), one of :mod:`sb3_ddpg_ext.schedules`, or what makes one: ``"lin_1e-3"`` (to 0),
        ``"lin_1e-3_1e-4"``, ``"exp_1e-3_0.9999"`` (per step), ``dict(kind="piecewise", points=[(0, 1e-3), (0.5, 1e-4)])``
    :param buffer_size: transitions the replay buffer holds
    :param learning_starts: steps before the first update; their actions are uniform random ones unless ``random_steps`` says
        otherwise (see also ``repeat_warmup``)
    :param batch_size: transitions in a minibatch
    :param tau: coefficient of the soft target update, in [0, 1]
    :param gamma: discount factor, in [0, 1]
    :param train_freq: environment steps between updates, or a pair such as ``(5, "step")`` or ``(1, "episode")``
    :param gradient_steps: updates each time; -1 for as many as environment steps were taken
    :param action_noise: exploration noise on the [-1, 1] action scale: None, a noise of :mod:`sb3_ddpg_ext.noise` or an
        ``ActionNoise`` of Stable-Baselines3, or what makes one: ``"normal_0.1"``, ``"ou_0.2"``, ``"pink_0.3"``,
        ``"adaptive-param_0.2"``, ``"epsilon_0.1"``, with a schedule ``"normal_lin_0.5_0.05"``, several with commas between,
        ``dict(kind="ou", sigma=0.2, dt=1.0)`` for all arguments. Ours is copied, so that it can be given to several models.
    :param replay_buffer_class: None for :class:`~sb3_ddpg_ext.buffers.TransitionReplayBuffer`, or
        :class:`~sb3_ddpg_ext.buffers.HindsightReplayBuffer`, or a class of Stable-Baselines3 or of your own
    :param replay_buffer_kwargs: further arguments of the replay buffer, such as ``dict(sampling="prioritized")`` or
        ``dict(combined=True)``
    :param optimize_memory_usage: passed to the replay buffer
    :param n_steps: length of the returns in the critic's target. A ``replay_buffer_class`` of your own that takes ``n_steps``
        is given it, and ``gamma``; in place of SB3's that do not take it, ours are made.
    :param stats_window_size: episodes in the means that are logged
    :param tensorboard_log: directory for TensorBoard; None for no log
    :param policy_kwargs: arguments of the policy, see :class:`DDPGPolicy`
    :param verbose: 0 silent, 1 information, 2 debugging
    :param seed: of torch, NumPy, the environment and the action space
    :param device: ``"auto"`` takes a GPU if there is one
    :param _init_setup_model: whether to build the networks at once
    :param qf_learning_rate: learning rate of the critic, in the forms of ``learning_rate``; None for the same
    :param repeat_warmup: take the random warm-up again at each ``learn()`` that resets the timesteps, also with a trained
        model, as Stable-Baselines3 does. By default only an untrained model acts at random.
    :param policy_delay: updates of the critic for each of the actor and the targets, Fujimoto et al. (2018), section 5.2;
        1 is DDPG
    :param target_policy_noise: standard deviation of the noise that smooths the target's actions, the same, section 5.3;
        0 is DDPG
    :param target_noise_clip: bound of that noise
    :param target_update_interval: updates of the critic for each of the targets; None for ``policy_delay``. With ``tau=1``
        they are copied each time.
    :param max_grad_norm: largest norm of the gradient of the actor's parameters, and of the critic's; None for no bound
    :param learner: ``"eager"`` is the update by autograd, with SB3's own operations; ``"fused"`` the same with its gradients
        written out, for plain multilayer perceptrons on the CPU; ``"cuda_graph"`` the eager one recorded once and replayed on
        a GPU; ``"auto"`` takes the faster of eager and fused that can train the model
    :param precision: ``"float32"``, or ``"bf16"`` to round what large matrix products multiply to bfloat16; on a CPU with AMX
        or on a GPU
    :param n_threads: of torch, to act and to update; None for one with small networks, torch's own number with large ones,
        with convolutions and with ``learner="eager"``. More than one is faster on an idle machine, much slower on a busy one.
    :param random_steps: number of uniform random actions at the beginning; None for ``learning_starts``
    :param noise_in_warmup: add the noise to these too, as Stable-Baselines3 does, which sends 4 to 20% of them to the bounds
    :raises ValueError: for a value outside what is allowed, or an observation or reward that is not finite
    :raises TypeError: for a value of the wrong type
    """

    has_memory: ClassVar[bool] = False
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
        "PaperPolicy": PaperPolicy,
        "PaperCnnPolicy": PaperCnnPolicy,
    }
    policy: DDPGPolicy

    def __init__(
        self,
        policy: str | type[DDPGPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule | str | dict[str, Any] = 1e-3,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | str | dict[str, Any] | list | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        stats_window_size: int = 100,
        qf_learning_rate: float | Schedule | str | dict[str, Any] | None = None,
        repeat_warmup: bool = False,
        policy_delay: int = 1,
        target_policy_noise: float = 0.0,
        target_noise_clip: float = 0.5,
        target_update_interval: int | None = None,
        max_grad_norm: float | None = None,
        learner: str = "auto",
        precision: str = "float32",
        n_threads: int | None = None,
        random_steps: int | None = None,
        noise_in_warmup: bool = False,
    ):
        self._check_policy(policy)
        check_instance("policy_kwargs", policy_kwargs, (dict, type(None)), "a dict or None")
        check_instance("replay_buffer_kwargs", replay_buffer_kwargs, (dict, type(None)), "a dict or None")
        if env is not None:  # None while a model is loaded for prediction only
            env = maybe_make_env(env, verbose)
            check_action_space(env)
        elif _init_setup_model:
            raise ValueError("env=None must be an environment, or the id of one")
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,  # type: ignore[arg-type]  # a string becomes a schedule in _setup_lr_schedule
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,  # type: ignore[arg-type]  # likewise in _setup_model
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            sde_support=False,
        )
        self.qf_learning_rate = qf_learning_rate
        self.repeat_warmup = repeat_warmup
        self.policy_delay = policy_delay
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.target_update_interval = target_update_interval
        self.max_grad_norm = max_grad_norm
        self.learner = learner
        self.precision = precision
        self.n_threads = n_threads
        self.random_steps = random_steps
        self.noise_in_warmup = noise_in_warmup
        self.plan: Plan | None = None  # of a preset
        self._is_loading = not _init_setup_model
        if _init_setup_model:
            self._setup_model()

    @classmethod
    def from_preset(cls: type[SelfDDPG], name: str, env: str, **overrides: Any) -> SelfDDPG:
        """
        A model by the hyperparameters of a paper or a tutorial, with the wrappers, the normalisation and the callbacks that
        rl_zoo3 would give it; ``learn()`` then needs no length. ``python -m sb3_ddpg_ext presets`` lists them.

        :param name: of the preset, such as ``"weekend"`` or ``"td3"``; ``"ddpg_ext"`` has our own, tuned hyperparameters
        :param env: id of a registered environment
        :param overrides: arguments of the constructor, or keys of rl_zoo3's YAML files such as ``n_timesteps`` and
            ``normalize``, in place of the preset's; dictionaries such as ``policy_kwargs`` are merged into the preset's
        :return: a :class:`RecurrentDDPG` where the preset is for one
        :raises ValueError: for an unknown preset or environment
        :raises TypeError: for an environment in place of its id
        :raises ImportError: if rl_zoo3 is missing
        """
        from sb3_ddpg_ext.experiment import from_preset

        return from_preset(cls, name, env, overrides)

    def _check_policy(self, policy: Any) -> None:
        base = "RecurrentPolicy" if self.has_memory else "DDPGPolicy"
        allowed = f"one of {sorted(self.policy_aliases)} or a subclass of {base}"
        if isinstance(policy, str):
            if policy not in self.policy_aliases:
                raise ValueError(f"policy={policy!r} is unknown; it must be {allowed}")
        elif not (isinstance(policy, type) and (issubclass(policy, DDPGPolicy) or policy in EQUIVALENT_POLICIES)):
            raise TypeError(f"policy={policy!r} must be {allowed} (a subclass of SB3's TD3Policy: derive it from {base})")
        elif not self.has_memory and getattr(policy, "unrolled", DDPGPolicy.unrolled) is not DDPGPolicy.unrolled:
            raise TypeError(f"policy={policy!r} is for RecurrentDDPG")

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        env = maybe_make_env(env, verbose)  # load() and set_env() take an id too
        if not isinstance(env, VecEnv):
            env = ShapeCheck(_patch_env(env))
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        """Build buffer, networks and learner from the attributes, which may come from the constructor or from a saved file."""
        if self.policy_class in EQUIVALENT_POLICIES:
            self._convert_from_sb3()
        self._check_arguments()
        self._setup_noise()
        self._setup_lr_schedule()
        if self.seed is not None:  # a loaded model does not see its first episodes again
            self.set_random_seed((self.seed + self.num_timesteps * self._is_loading) % 2**32)
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)
        self.actor, self.actor_target = self.policy.actor, self.policy.actor_target
        self.critic, self.critic_target = self.policy.critic, self.policy.critic_target
        self._check_together()
        self._diagnostics = Diagnostics()
        self._looks: dict[str, float] = {}  # since the last log
        self._learner = None
        self._choose_learner()
        self._losses = LossLog()
        self._warned = False
        self._is_loading = False

    def _choose_learner(self) -> None:
        """By ``learner``, and by what the policy is made of now. What it has learnt stays where it was, in the policy."""
        try:
            chosen, refused = choose_learner(self.learner, self.policy, self.precision)
        except ValueError as error:
            if not self._is_loading:
                raise
            warnings.warn(f"{error}. It can predict; to train it, load it with another learner", stacklevel=4)
            chosen, refused = choose_learner("auto", self.policy, self.precision)
        self._settings = {}
        is_news = type(self._learner) is not chosen
        self._learner = chosen(self.policy, self.tau, precision=self.precision)
        if self.verbose > 0 and is_news:
            print(f"Learner: {chosen.name}", *(f"({name} not: {reason})" for name, reason in refused.items()))

    def _convert_from_sb3(self) -> None:
        """From the policy class of SB3, and from what else a zip of its DDPG or TD3 has brought, to ours."""
        self.policy_class = EQUIVALENT_POLICIES[self.policy_class]
        if "policy_delay" in self.__dict__:  # a zip: one by DDPG says n_critics=1, one by TD3 means its policy's default
            self.policy_kwargs.setdefault("n_critics", 2)
            if self.replay_buffer_class is NStepReplayBuffer and self.n_steps > 1:
                self.replay_buffer_kwargs = {}  # where SB3 has written n_steps and gamma; ours come from the model
            if self.replay_buffer_class in (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer):
                self.replay_buffer_class = None  # SB3's choice, which is made anew here
        for name in TD3_ATTRIBUTES:
            self.__dict__.pop(name, None)

    def _check_arguments(self) -> None:
        minimum = dict(buffer_size=1, learning_starts=0, batch_size=1, gradient_steps=-1, n_steps=1, policy_delay=1)
        for name, at_least in minimum.items():
            setattr(self, name, check_integer(name, getattr(self, name), at_least))
        self._stats_window_size = check_integer("stats_window_size", self._stats_window_size, at_least=1)
        self.tau = check_real("tau", self.tau, 0, 1)
        self.gamma = check_real("gamma", self.gamma, 0, 1)
        self.target_policy_noise = check_real("target_policy_noise", self.target_policy_noise, 0)
        self.target_noise_clip = check_real("target_noise_clip", self.target_noise_clip, 0)
        if self.target_update_interval is not None:
            self.target_update_interval = check_integer("target_update_interval", self.target_update_interval, at_least=1)
        if self.max_grad_norm is not None:
            self.max_grad_norm = check_real("max_grad_norm", self.max_grad_norm, low=0, above=True)
        check_choice("learner", self.learner, ["auto", *LEARNERS])
        check_choice("precision", self.precision, ["float32", "bf16"])
        if self.precision == "bf16" and self.device.type == "cpu" and not has_amx():
            warnings.warn("precision='bf16' brings nothing on this processor, which has no AMX", stacklevel=2)
        if self.n_threads is not None:
            self.n_threads = check_integer("n_threads", self.n_threads, at_least=1)
        self.train_freq = check_train_freq(self.train_freq, self.n_envs)  # type: ignore[assignment]
        if self.seed is not None:
            self.seed = check_integer("seed", self.seed, at_least=0)
        check_observation_space(self.observation_space)
        if "features_extractor_class" not in self.policy_kwargs:
            self._check_space_of_policy()

    def _check_space_of_policy(self) -> None:
        name = next((alias for alias, policy in self.policy_aliases.items() if policy is self.policy_class), None)
        if name is None:  # a user's own
            return
        extractor = self.policy_class.defaults.get("features_extractor_class")  # type: ignore[attr-defined]
        is_dict = isinstance(self.observation_space, spaces.Dict)
        if extractor is CombinedExtractor and not is_dict:
            raise ValueError(f"policy={name!r} needs a Dict observation space, not {self.observation_space}")
        if extractor in (NatureCNN, PaperCnn) and len(self.observation_space.shape or ()) != 3:
            raise ValueError(f"policy={name!r} needs images as observations, not {self.observation_space}")
        if extractor is None and is_dict:
            multi = [alias for alias in self.policy_aliases if alias.startswith("MultiInput")]
            raise ValueError(f"policy={name!r} must be one of {multi} with Dict observations {self.observation_space}")

    def _check_together(self) -> None:
        """What needs the policy, too."""
        options = self.policy.options
        is_lap = isinstance(getattr(self.replay_buffer, "sampling", None), LossAdjusted)
        if is_lap and options.critic_kind[0] == "scalar" and options.critic_loss != "huber":
            raise ValueError("replay_buffer_kwargs['sampling']='lap' needs policy_kwargs['critic_loss']='huber'")
        if options.behaviour_cloning and getattr(self.replay_buffer, "demonstrations", None) is None and not self._is_loading:
            raise ValueError("policy_kwargs['behaviour_cloning'] needs replay_buffer_kwargs['demonstrations']")
        if self.batch_size == 1 and uses_batch_statistics(self.policy):
            raise ValueError("batch_size=1 must be at least 2 with BatchNorm, which needs the spread of a minibatch")

    def _setup_lr_schedule(self) -> None:
        qf_learning_rate = self.learning_rate if self.qf_learning_rate is None else self.qf_learning_rate
        self.lr_schedule = make_schedule("learning_rate", self.learning_rate)
        self.qf_lr_schedule = make_schedule("qf_learning_rate", qf_learning_rate)

    def learn(
        self: SelfDDPG,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str = "DDPG",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDDPG:
        """
        As in Stable-Baselines3; a model of :meth:`from_preset` knows its length, and has the preset's callbacks run, too.

        :param total_timesteps: environment steps; None for the preset's
        :param callback: called at every step
        :param log_interval: episodes between logs; None for no log
        :param tb_log_name: of the run, for TensorBoard
        :param reset_num_timesteps: whether to count steps from 0 again
        :param progress_bar: whether to show one
        :return: the model itself
        """
        if self.plan is not None:
            total_timesteps = self.plan.n_timesteps if total_timesteps is None else total_timesteps
            callback = _together(self.plan.callbacks, callback)
        elif total_timesteps is None:
            raise ValueError("total_timesteps=None must be an integer >= 0: only a model of from_preset knows its length")
        total_timesteps = check_integer("total_timesteps", total_timesteps, at_least=0)
        if log_interval is not None:
            log_interval = check_integer("log_interval", log_interval, at_least=1)
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        self._warned = False
        self._give_env()
        callback.on_training_start(locals(), globals())
        self._choose_learner()  # after the callbacks, which may freeze parameters or watch modules
        try:
            while self.num_timesteps < total_timesteps:
                rollout = self.collect_rollouts(
                    self.env,  # type: ignore[arg-type]
                    train_freq=self.train_freq,  # type: ignore[arg-type]
                    action_noise=self.action_noise,
                    callback=callback,
                    learning_starts=self.learning_starts,
                    replay_buffer=self.replay_buffer,  # type: ignore[arg-type]
                    log_interval=log_interval,
                )
                if not rollout.continue_training:
                    self._last_obs = None  # as in SB3, what comes next begins with a new episode
                    break
                gradient_steps = self.gradient_steps if self.gradient_steps >= 0 else rollout.episode_timesteps
                if gradient_steps > 0 and self._is_warmed_up():
                    self.train(gradient_steps, self.batch_size)
        except BaseException:
            self._last_obs = None  # a step may be lost: what comes next must not follow the one before
            raise
        callback.on_training_end()
        return self

    def _is_warmed_up(self) -> bool:
        """Whether to update: after ``learning_starts`` steps, or, for a trained model, once that many are in the buffer."""
        if self.repeat_warmup or self._n_updates == 0:
            return self.num_timesteps > self.learning_starts
        assert self.replay_buffer is not None
        return self.replay_buffer.full or self.replay_buffer.size() * self.n_envs > self.learning_starts

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        Update critic, actor and targets by minibatches from the replay buffer. ``learn`` calls this.

        :param gradient_steps: number of updates
        :param batch_size: transitions in each minibatch; ``learn`` gives that of the model, and 100 is SB3's default
        """
        if self._learner is None:
            self._choose_learner()
        learner = self._learner
        assert learner is not None
        if learner.needs_modes:
            self.policy.set_training_mode(True)
        qf_lr_schedule = self.lr_schedule if self.qf_learning_rate is None else self.qf_lr_schedule
        for net, schedule in ((self.policy.actor, self.lr_schedule), (self.policy.critic, qf_lr_schedule)):
            update_learning_rate(net.optimizer, evaluate(schedule, self._current_progress_remaining, self.num_timesteps))
        learner.tau, learner.policy_delay, learner.n_updates = self.tau, self.policy_delay, self._n_updates
        learner.target_policy_noise, learner.target_noise_clip = self.target_policy_noise, self.target_noise_clip
        learner.target_update_interval, learner.max_grad_norm = self.target_update_interval, self.max_grad_norm
        replay_buffer, parameter_noise = self.replay_buffer, self.parameter_noise
        assert replay_buffer is not None
        if isinstance(replay_buffer, TransitionReplayBuffer):
            replay_buffer.advance(self._current_progress_remaining, self.num_timesteps)
        with self._torch_settings(batch_size):
            for n_updates in range(self._n_updates + 1, self._n_updates + gradient_steps + 1):
                batch = self._draw(batch_size)
                self._losses.add(learner.update(batch))
                if batch.indices is not None:
                    replay_buffer.update_priorities(batch.indices, learner.errors)  # type: ignore[attr-defined]
                if parameter_noise is not None:
                    parameter_noise.after_update(n_updates, self.policy, batch.observations)
        self._n_updates += gradient_steps
        if self._diagnostics.is_due(self._n_updates):
            self._look()

    def _look(self) -> None:
        """At actor and critic, for the log and the warning; see :mod:`sb3_ddpg_ext.diagnostics`."""
        with self._torch_settings(self.batch_size).threads:
            draw = lambda n: self._draw(min(n, self.batch_size))  # noqa: E731
            self._looks |= self._diagnostics.measure(self.policy, draw, self.replay_buffer.size(), self._n_updates)  # type: ignore[union-attr]

    def _draw(self, batch_size: int) -> Batch:
        """A minibatch from the replay buffer."""
        samples = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
        return Batch.from_samples(samples, self.gamma)

    @property
    def logger(self) -> Logger:
        """
        SB3's logger. It holds the losses of the updates until now, as means since it was last dumped, and what else is
        logged of them. They are turned into floats when somebody asks for the logger, thus at the latest by ``dump_logs``.
        """
        logger = self._logger
        if self._losses.record(logger):
            logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
            logger.record("train/learning_rate", self.policy.actor.optimizer.param_groups[0]["lr"])
            logger.record("train/qf_learning_rate", self.policy.critic.optimizer.param_groups[0]["lr"])
            for name, value in self._looks.items():
                logger.record(f"train/{name}", value)
            self._looks = {}
        return logger

    def dump_logs(self) -> None:
        """Write the log."""
        if self._n_updates > 0:
            self._warn_if_oversubscribed()
        self._record_exploration()
        super().dump_logs()

    def _warn_if_oversubscribed(self) -> None:
        if not self._warned and warn_if_oversubscribed(self._torch_settings(self.batch_size).threads.n):
            self._warned = True

    def save(
        self, path: str | Path | BufferedIOBase, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """
        As in Stable-Baselines3, but a file of before stays until the new one is whole.

        :param path: the file, with ".zip" behind it if it has no suffix
        :param exclude: attributes that are not to be saved
        :param include: attributes that are to be saved though they are not by default
        """
        with written_whole(path, "zip") as file:
            super().save(file, exclude, include)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: without the learner, whose memory is made anew where the model is trained."""
        return self.__dict__ | {"_learner": None, "_settings": {}}

    def _excluded_save_params(self) -> list[str]:
        derived = [
            "actor",
            "critic",
            "actor_target",
            "critic_target",
            "_learner",
            "_diagnostics",
            "_looks",
            "_losses",
            "_settings",
            "_is_loading",
            "plan",
        ]
        return super()._excluded_save_params() + derived

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []


def _together(planned: list[BaseCallback], callback: MaybeCallback) -> MaybeCallback:
    """Callbacks of a plan and those that ``learn`` is given, in any of the forms that it takes."""
    if not planned:
        return callback
    given = callback if isinstance(callback, list) else [] if callback is None else [callback]
    return CallbackList([*planned, *(one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in given)])
