"""
Makes the plain ``rl_zoo3`` command know ``ddpg_ext``.

rl_zoo3 has no plugin hook of its own, so this uses one of PyTorch's: at the end of ``import torch`` every entry point of the
group ``torch.backends`` is called, here :func:`arm`. It puts a finder on ``sys.meta_path`` that waits for
``rl_zoo3.exp_manager`` and registers us when that module has been loaded. Until then nothing but the standard library is
imported: that is why this module lies outside the package. It must be wherever the metadata is that names it, or ``import
torch`` fails there: ``setup.py`` puts a copy into editable installations.
``SB3_DDPG_EXT_AUTOLOAD=0`` switches it off, and so does
PyTorch's own ``TORCH_DEVICE_BACKEND_AUTOLOAD=0``.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

TRIGGER = "rl_zoo3.exp_manager"


class RegisterAfterImport:
    """A meta path finder that finds nothing itself: it lets the others find ``TRIGGER``, and adds a step to its loading."""

    def __init__(self) -> None:
        self.is_asking_others = False

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TRIGGER or self.is_asking_others:
            return None
        self.is_asking_others = True
        try:
            spec = find_spec(name)
        finally:
            self.is_asking_others = False
        if spec is not None and spec.loader is not None:
            exec_module = spec.loader.exec_module

            def exec_and_register(module: ModuleType) -> None:
                exec_module(module)
                sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
                try:
                    from sb3_ddpg_ext.zoo import register

                    register()
                except Exception as error:  # rl_zoo3's own algorithms must go on working
                    import warnings

                    warnings.warn(f"sb3_ddpg_ext could not be registered in rl_zoo3: {error!r}", stacklevel=2)

            spec.loader.exec_module = exec_and_register  # type: ignore[method-assign]
        return spec


def arm() -> None:
    """Called by ``import torch``, which an exception here would break: there is nothing in it that can raise one."""
    if os.environ.get("SB3_DDPG_EXT_AUTOLOAD") != "0" and TRIGGER not in sys.modules:
        sys.meta_path.insert(0, RegisterAfterImport())
