"""What torch reads of a file of parameters, looked at before torch does."""

import pickletools
import re
from typing import IO

# What a file of parameters calls. torch allows more: an array of bytes of any length, tensors of any size, codecs that double.
CALLED = re.compile(
    r"torch(\.cuda)? \w+Storage|torch (Size|device|(b?float|complex|u?int)\d+|bool)|"
    r"torch\.serialization _get_layout|torch\._utils _rebuild_(tensor_v2|parameter|parameter_with_state)|"
    r"torch\.nn\.parameter Parameter|collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)"
)
MOST_PARTS = 10**7  # of the whole, with each part counted as often as it stands there
CONTAINERS = ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "EMPTY_TUPLE")
TAKE = dict(TUPLE1=1, TUPLE2=2, TUPLE3=3, REDUCE=2, NEWOBJ=2, BINPERSID=1)  # operations that make one of so many
INTO = dict(APPEND=1, SETITEM=2, BUILD=1)  # that put so many into the one below
N_LEGACY = 5  # pickles of which a file from before torch 1.6 consists


def check_pickle(name: str, file: IO[bytes]) -> None:
    """
    :param name: of the file, for the error
    :param file: at a pickle of torch's, behind which it is afterwards
    :raises ValueError: if it is none, or one of which torch would make more than a state dict, or whose parts stand in one
        another so often that nobody could walk through them
    """
    stack: list[list[int]] = []  # the size of each object, which grows
    marks: list[int] = []
    memo: dict[int, list[int]] = {}
    for code, argument, _ in pickletools.genops(file):
        kind = code.name
        if kind in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
            if kind != "GLOBAL" or CALLED.fullmatch(str(argument)) is None:
                raise ValueError(f"{name} must hold parameters alone, not {argument}")
            stack.append([1])
        elif kind == "MARK":
            marks.append(len(stack))
        elif kind in ("TUPLE", "APPENDS", "SETITEMS"):
            begin = marks.pop()
            size = sum(each[0] for each in stack[begin:])
            del stack[begin:]
            if kind == "TUPLE":
                stack.append([1 + size])
            else:
                stack[-1][0] += size
        elif kind in TAKE:
            parts = [stack.pop() for _ in range(TAKE[kind])]
            stack.append([1 + sum(each[0] for each in parts)])
        elif kind in INTO:
            parts = [stack.pop() for _ in range(INTO[kind])]
            stack[-1][0] += sum(each[0] for each in parts)
        elif kind in ("BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = stack[-1]
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif kind in CONTAINERS or (code.stack_after and not code.stack_before):  # a number, a text
            stack.append([1])
        elif kind not in ("PROTO", "STOP"):
            raise ValueError(f"{name} must be written by torch, which has no {kind}")
        if stack and stack[-1][0] > MOST_PARTS:
            raise ValueError(f"{name} must have at most {MOST_PARTS} parts")
