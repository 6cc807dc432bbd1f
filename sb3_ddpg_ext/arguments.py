"""Checks of arguments that depend on each other, and the arguments in files of Stable-Baselines3."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.td3 import policies as sb3_policies

from sb3_ddpg_ext.buffers import SAMPLINGS
from sb3_ddpg_ext.finite import ON_NAN
from sb3_ddpg_ext.kinds import did_you_mean
from sb3_ddpg_ext.learners import UpdateSettings, check_learner
from sb3_ddpg_ext.networks import uses_batch_statistics
from sb3_ddpg_ext.observations import has_keys
from sb3_ddpg_ext.policies import CnnPolicy, DDPGPolicy, MultiInputPolicy
from sb3_ddpg_ext.policies.heads import LOSSES, head_takes
from sb3_ddpg_ext.policies.optimizers import check_optimizer
from sb3_ddpg_ext.policies.paper import PaperCnn
from sb3_ddpg_ext.policies.recurrent import RecurrentPolicy
from sb3_ddpg_ext.validation import (
    MANY,
    MAX_N_STEPS,
    check_choice,
    check_device,
    check_flag,
    check_folder,
    check_instance,
    check_integer,
    check_kwargs,
    check_observation_space,
    check_real,
    check_train_freq,
    is_subclass,
)

Aliases = dict[str, type[BasePolicy]]
N_IMAGE_AXES = 3

# The least and the largest of each; more than that does not fit into memory, or never ends.
INTEGERS: Mapping[str, tuple[int, int | None]] = dict(
    buffer_size=(1, 2**31 - 2), learning_starts=(0, None), batch_size=(1, 10**7), gradient_steps=(-1, MANY),
    n_steps=(1, MAX_N_STEPS), _stats_window_size=(1, MANY), n_threads=(1, 1024), seed=(0, 2**32 - 1), random_steps=(0, None),
)  # fmt: skip
MAY_BE_NONE = ("n_threads", "seed", "random_steps")

# The policies in a zip saved by Stable-Baselines3's DDPG or TD3, and ours with the same parameters.
EQUIVALENT_POLICIES: dict[type[BasePolicy], type[DDPGPolicy]] = {
    sb3_policies.TD3Policy: DDPGPolicy,
    sb3_policies.CnnPolicy: CnnPolicy,
    sb3_policies.MultiInputPolicy: MultiInputPolicy,
}
DDPG_POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy", "PaperPolicy", "PaperCnnPolicy")
# Attributes in such a zip that mean nothing here.
TD3_ATTRIBUTES = tuple(f"{net}_batch_norm_stats{suffix}" for net in ("actor", "critic") for suffix in ("", "_target"))


def check_policy(policy: Any, aliases: Aliases, base: type[DDPGPolicy]) -> None:
    """
    :param policy: the argument
    :param aliases: the names of policies
    :param base: of which another one must be a subclass
    :raises ValueError: for an unknown name
    :raises TypeError: for another class
    """
    allowed = f"one of {sorted(aliases)} or a subclass of {base.__name__}"
    if isinstance(policy, str):
        if policy not in aliases:
            raise ValueError(f"policy={policy!r} {_unknown_policy(policy, aliases, base)} must be {allowed}")
        return
    own = EQUIVALENT_POLICIES.get(policy, policy) if is_subclass(policy, object) else policy
    if not is_subclass(own, base):
        hint = (
            "DDPG has a policy without a memory"
            if is_subclass(own, DDPGPolicy)
            else (f"a subclass of SB3's TD3Policy: derive it from {base.__name__}")
        )
        raise TypeError(f"policy={policy!r} must be {allowed} ({hint})")
    if issubclass(own, RecurrentPolicy) and base is not RecurrentPolicy:
        raise TypeError(f"policy={policy!r} is for RecurrentDDPG, which has a memory")


def _unknown_policy(policy: str, aliases: Aliases, base: type[DDPGPolicy]) -> str:
    """What is wrong with a name, up to what it must be."""
    if policy.endswith(("LstmPolicy", "GruPolicy")) and base is not RecurrentPolicy:
        return "is for RecurrentDDPG, which has a memory; here it"
    if policy in DDPG_POLICIES and base is RecurrentPolicy:
        return "is for DDPG, which has no memory; here it"
    return f"is unknown{did_you_mean(policy, aliases)}"


def check_what_sb3_takes(policy_kwargs: Any, replay_buffer_kwargs: Any, verbose: Any, device: Any) -> None:
    """
    Check what Stable-Baselines3's constructor uses at once.

    :raises ValueError: for a value outside what is allowed
    :raises TypeError: for a value of the wrong type
    """
    check_kwargs("policy_kwargs", policy_kwargs)
    check_kwargs("replay_buffer_kwargs", replay_buffer_kwargs)
    check_choice("verbose", verbose, [0, 1, 2])
    check_device("device", device)


def checked(attributes: dict[str, Any], aliases: Aliases) -> dict[str, Any]:
    """
    Check the arguments that :class:`~sb3_ddpg_ext.DDPG` has as attributes, which may come from a file.

    :param attributes: of a model
    :param aliases: the names of policies
    :return: those that are checked, as Python's own numbers and SB3's types
    :raises ValueError: for a value outside what is allowed
    :raises TypeError: for a value of the wrong type
    """
    good: dict[str, Any] = {
        name: check_integer(name.removeprefix("_"), attributes[name], *bounds)
        for name, bounds in INTEGERS.items()
        if name not in MAY_BE_NONE or attributes[name] is not None
    }
    good |= {name: check_flag(name, attributes[name]) for name in ("repeat_warmup", "optimize_memory_usage")}
    good["gamma"] = check_real("gamma", attributes["gamma"], 0, 1)
    check_folder("tensorboard_log", attributes["tensorboard_log"])
    check_learner(attributes["learner"])
    good |= vars(UpdateSettings.of(SimpleNamespace(**attributes)))
    check_instance("noise_in_warmup", attributes["noise_in_warmup"], bool, "a bool")
    check_choice("on_nan", attributes.get("on_nan", "raise"), ON_NAN)
    good["train_freq"] = check_train_freq(attributes["train_freq"], attributes["n_envs"])
    if not attributes["_is_loading"]:  # a model that is only to act may be loaded where it could not be trained
        check_optimizer(attributes["policy_kwargs"], attributes["device"])
    check_observation_space(attributes["observation_space"])
    if "features_extractor_class" not in attributes["policy_kwargs"]:
        check_space_of_policy(attributes["policy_class"], aliases, attributes["observation_space"])
    return good


def convert_from_sb3(attributes: dict[str, Any]) -> None:
    """
    Turn the attributes from a zip of Stable-Baselines3's DDPG or TD3, its policy class among them, into ours.

    :param attributes: of a model; changed in place
    """
    if attributes["policy_class"] not in EQUIVALENT_POLICIES:
        return
    attributes["policy_class"] = EQUIVALENT_POLICIES[attributes["policy_class"]]
    if attributes["_is_loading"] and "policy_delay" in attributes:  # one by DDPG says n_critics=1, one by TD3 means 2
        attributes["policy_kwargs"].setdefault("n_critics", 2)
        if attributes["replay_buffer_class"] is NStepReplayBuffer and attributes["n_steps"] > 1:
            attributes["replay_buffer_kwargs"] = {}  # where SB3 has written n_steps and gamma; ours come from the model
        if attributes["replay_buffer_class"] in (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer):
            attributes["replay_buffer_class"] = None  # SB3's choice, which is made anew here
    for name in TD3_ATTRIBUTES:
        attributes.pop(name, None)


def check_space_of_policy(policy_class: type[BasePolicy], aliases: Aliases, space: spaces.Space) -> None:
    """
    :param policy_class: one of the aliases, or a user's own, which is left alone
    :param aliases: the names of policies
    :param space: of the observations
    :raises ValueError: if they do not go together
    """
    name = next((alias for alias, policy in aliases.items() if policy is policy_class), None)
    if name is None:
        return
    extractor = policy_class.defaults.get("features_extractor_class")  # type: ignore[attr-defined]
    is_dict = has_keys(space)
    if extractor is CombinedExtractor and not is_dict:
        raise ValueError(f"policy={name!r} needs a Dict observation space, not {space}")
    if extractor in (NatureCNN, PaperCnn) and len(space.shape or ()) != N_IMAGE_AXES:
        raise ValueError(f"policy={name!r} needs images as observations, not {space}")
    if extractor is None and is_dict:
        multi = [alias for alias in aliases if alias.startswith("MultiInput")]
        raise ValueError(f"policy={name!r} must be one of {multi} with Dict observations {space}")


def check_loss_of_sampling(sampling: Any, critic_loss: Any) -> None:
    """
    :param sampling: of the replay buffer, or None
    :param critic_loss: of the policy, by its name or as a function
    :raises ValueError: if the sampling makes sense with another one alone
    """
    wanted, name = getattr(sampling, "critic_loss", None), SAMPLINGS.name_of(sampling)
    if wanted is None or critic_loss == wanted:
        return
    if LOSSES.make("critic_loss", critic_loss) is not LOSSES.make(f"critic_loss of {name!r}", wanted):
        raise ValueError(
            f"policy_kwargs['critic_loss']={critic_loss!r} must be {wanted!r} with replay_buffer_kwargs['sampling']={name!r}"
        )


def check_together(policy: DDPGPolicy, replay_buffer: ReplayBuffer, batch_size: int, may_lack_demonstrations: bool) -> None:
    """
    :param policy: the policy
    :param replay_buffer: the replay buffer
    :param batch_size: transitions in a minibatch
    :param may_lack_demonstrations: whether it is no error if they are missing
    :raises ValueError: if one of them contradicts another
    """
    options = policy.options
    if head_takes(options.critic, "loss"):
        check_loss_of_sampling(getattr(replay_buffer, "sampling", None), options.critic_loss)
    has_demonstrations = getattr(replay_buffer, "demonstrations", None) is not None
    if options.behaviour_cloning and not (has_demonstrations or may_lack_demonstrations):
        raise ValueError("policy_kwargs['behaviour_cloning'] needs replay_buffer_kwargs['demonstrations']")
    if batch_size == 1 and uses_batch_statistics(policy):
        raise ValueError("batch_size=1 must be at least 2 with BatchNorm, which needs the spread of a minibatch")
