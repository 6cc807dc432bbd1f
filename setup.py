"""The compiled learner's libraries. Everything else about the package is in setup.cfg."""

import base64
import hashlib
import platform
import sys
import zipfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.editable_wheel import editable_wheel

AUTOLOAD = "_sb3_ddpg_ext_autoload.py"
SOURCE = "sb3_ddpg_ext/native/source"
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math"]
# The flags of each kind of processor that the libraries are built for; native/loading.py chooses among them.
LEVELS = {"plain": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS["avx2"] = ["-mavx2", "-mfma"]
    LEVELS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
# What the numbers are of, and how they are multiplied; bfloat16 needs instructions of its own.
TYPES = [(level, type_name, type_name, flags) for level, flags in LEVELS.items() for type_name in ("float", "double")]
ROUNDING = {"vectors": ["-mavx512bf16"], "amx": ["-mavx512bf16", "-mamx-tile", "-mamx-bf16"]}
if "avx512" in LEVELS:
    TYPES += [("avx512", name, "float", LEVELS["avx512"] + flags) for name, flags in ROUNDING.items()]
HEADERS = sorted(str(header) for header in Path(SOURCE).glob("*.h"))


class Libraries(build_ext):
    """Plain libraries, which know nothing of Python. Without a compiler for them the package does without."""

    def get_ext_filename(self, name):
        return name.replace(".", "/") + ".so"


class ForEveryPython(bdist_wheel):
    """A wheel for a platform, or for all of them, whatever the version of Python."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2]) if EXTENSIONS else super().get_tag()


class WithAutoload(editable_wheel):
    """
    An editable wheel that has a copy of what ``import torch`` runs, beside the entry point that names it.

    Else every ``import torch`` would fail where the metadata can be seen and the checkout cannot: when its folder has been
    deleted, or when another environment has these site-packages on its path.
    """

    def run(self):
        super().run()
        wheel = max(Path(self.dist_dir).glob("*.whl"), key=lambda path: path.stat().st_mtime)
        with zipfile.ZipFile(wheel) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members[AUTOLOAD] = Path(AUTOLOAD).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(members[AUTOLOAD]).digest()).rstrip(b"=").decode()
        (record,) = (name for name in members if name.endswith(".dist-info/RECORD"))
        members[record] = f"{AUTOLOAD},sha256={digest},{len(members[AUTOLOAD])}\n".encode() + members[record]
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)


EXTENSIONS = [
    Extension(
        f"sb3_ddpg_ext.native.ddpg_{level}_{name}",
        [f"{SOURCE}/update.c"],
        define_macros=[("real", type_name)],
        extra_compile_args=FLAGS + flags,
        extra_link_args=["-pthread"],
        libraries=["m"],
        depends=HEADERS,
        optional=True,
    )
    for level, name, type_name, flags in TYPES
    if sys.platform != "win32"  # whose compiler knows no vectors of this kind
]
setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": Libraries, "bdist_wheel": ForEveryPython, "editable_wheel": WithAutoload})
