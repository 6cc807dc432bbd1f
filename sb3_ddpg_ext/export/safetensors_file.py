"""Files in the format of safetensors: a JSON header with the list of operations, and the arrays."""

import json
from typing import Any

from sb3_ddpg_ext.export.assembly import assemble
from sb3_ddpg_ext.export.source import Source
from sb3_ddpg_ext.runtime import MEMBER, METADATA, TYPES, load

ALIGNMENT = 8  # of the arrays, in bytes
NAMES = {dtype: name for name, dtype in TYPES.items()}


def write(source: Source, about: dict[str, Any]) -> bytes:
    """
    :param source: what is exported
    :param about: its description
    :return: the content of the file
    """
    program = assemble(source)
    about = about | {"program": program.named()}
    header: dict[str, Any] = {METADATA: {"format": "np", MEMBER: json.dumps(about)}}
    end, blocks = 0, []
    # Longer items first, as in the library of that name, so that each array begins at a multiple of its items' size.
    for name, array in sorted(program.arrays.items(), key=lambda item: -item[1].itemsize):
        content = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = dict(dtype=NAMES[array.dtype.newbyteorder("<").str], shape=list(array.shape),
                            data_offsets=[end, end + len(content)])  # fmt: skip
        end += len(content)
        blocks.append(content)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *blocks])


__all__ = ["load", "write"]
