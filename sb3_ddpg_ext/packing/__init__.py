"""Objects as JSON and arrays: written without a pickle, and read without running what a file brings along."""

from sb3_ddpg_ext.packing.archive import DAMAGE, check_archive, check_readable, check_sizes, read_packed, write_packed
from sb3_ddpg_ext.packing.names import CannotPack
from sb3_ddpg_ext.packing.packer import Packer
from sb3_ddpg_ext.packing.pickles import check_is_of_ddpg, imports_of
from sb3_ddpg_ext.packing.streams import STREAMS, checked_state
from sb3_ddpg_ext.packing.unpacker import Unpacker
from sb3_ddpg_ext.packing.views import as_view, is_of_others, share_memory, view_of

__all__ = [
    "DAMAGE",
    "STREAMS",
    "CannotPack",
    "Packer",
    "Unpacker",
    "as_view",
    "check_archive",
    "check_is_of_ddpg",
    "check_readable",
    "check_sizes",
    "checked_state",
    "imports_of",
    "is_of_others",
    "read_packed",
    "share_memory",
    "view_of",
    "write_packed",
]
