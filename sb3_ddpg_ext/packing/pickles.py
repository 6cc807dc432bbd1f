"""What a pickle would import, found without running it."""

import base64
import binascii
import pickletools
from typing import Any

LIBRARIES = ("stable_baselines3.", "sb3_contrib.", "sbx.")  # whose algorithms have policies of other kinds
POLICIES_OF_DDPG = "stable_baselines3.td3.policies."  # of Stable-Baselines3's DDPG and TD3
ACTOR_CRITIC = "ActorCritic"  # in the names of the policies of PPO, A2C and TRPO


def imports_of(data: bytes) -> set[str]:
    """
    :param data: a pickle
    :return: the names, with their modules, of all that it would import
    :raises ValueError: if it is none, or ends early
    """
    found: set[str] = set()
    texts: list[str] = []  # strings in the order in which they come onto the stack
    memo: dict[int, str] = {}
    n_memoized, last = 0, None
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("GLOBAL", "INST"):
            found.add(str(argument).replace(" ", "."))
        elif code.name == "STACK_GLOBAL":
            found.add(".".join(texts[-2:]))
        elif code.name == "MEMOIZE":
            memo |= {} if last is None else {n_memoized: last}
            n_memoized += 1
        elif code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo |= {} if last is None else {int(argument or 0): last}
        elif code.name in ("GET", "BINGET", "LONG_BINGET"):
            texts += [memo[int(argument or 0)]] if int(argument or 0) in memo else []
        last = argument if isinstance(argument, str) and code.name not in ("GLOBAL", "INST") else None
        texts += [] if last is None else [last]
    return found


def check_is_of_ddpg(path: str, policy_class: Any) -> None:
    """
    Look at a model's policy class without unpickling it.

    :param path: of the file, for the error
    :param policy_class: as Stable-Baselines3 writes it into the JSON of its files; what is not such an entry is left alone
    :raises ValueError: if it is the policy of another algorithm of Stable-Baselines3 or its kin
    """
    try:
        names = imports_of(base64.b64decode(policy_class[":serialized:"]))
    except (TypeError, KeyError, ValueError, binascii.Error):
        return
    name = names.pop() if len(names) == 1 else ""  # else a class of a user's own, with all that it stands on
    if name.startswith(LIBRARIES) and not name.startswith(POLICIES_OF_DDPG):
        cls = name.rpartition(".")[2]
        algorithm = "PPO, A2C or their kin" if ACTOR_CRITIC in cls else cls.removesuffix("Policy")
        raise ValueError(
            f"path={path!r} has been saved by another algorithm, {algorithm} (its policy is {name}); it must be a file of "
            "sb3_ddpg_ext, or of Stable-Baselines3's DDPG or TD3"
        )
