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
    stack: list[list[int]] = []  # of each object its size, which grows, and whether it stands in another one
    marks: list[int] = []
    memo: dict[int, list[int]] = {}
    for code, argument, _ in pickletools.genops(file):
        kind = code.name
        if kind in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
            if kind != "GLOBAL" or CALLED.fullmatch(str(argument)) is None:
                raise ValueError(f"{name} must hold parameters alone, not {argument}")
            stack.append([1, False])
        elif kind == "MARK":
            marks.append(len(stack))
        elif kind in ("TUPLE", "APPENDS", "SETITEMS"):
            begin = marks.pop()
            parts = stack[begin:]
            del stack[begin:]
            if kind == "TUPLE":
                stack.append([1 + _put_together(parts), False])
            else:
                _put_into(name, stack[-1], parts)
        elif kind in TAKE:
            parts = [stack.pop() for _ in range(TAKE[kind])]
            stack.append([1 + _put_together(parts), False])
        elif kind in INTO:
            parts = [stack.pop() for _ in range(INTO[kind])]
            _put_into(name, stack[-1], parts)
        elif kind in ("BINPUT", "LONG_BINPUT"):
            memo[int(str(argument))] = stack[-1]
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif kind in CONTAINERS or (code.stack_after and not code.stack_before):  # a number, a text
            stack.append([1, False])
        elif kind not in ("PROTO", "STOP"):
            raise ValueError(f"{name} must be written by torch, which has no {kind}")
        if stack and stack[-1][0] > MOST_PARTS:
            raise ValueError(f"{name} must have at most {MOST_PARTS} parts")


def _put_together(parts: list[list[int]]) -> int:
    """The size of parts that stand in another one from now on."""
    for each in parts:
        each[1] = True
    return sum(each[0] for each in parts)


def _put_into(name: str, whole: list[int], parts: list[list[int]]) -> None:
    size = _put_together(parts)
    if whole[1]:  # its former size has been counted there
        raise ValueError(f"{name} must hold nothing that grows once it stands in another part")
    whole[0] += size
