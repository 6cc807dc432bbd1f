"""What a pickle would import, found without running it."""

import pickletools


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
