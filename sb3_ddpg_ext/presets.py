from typing import Any

import yaml

from sb3_ddpg_ext.zoo import hyperparams_path


class load_preset:
    def __init__(self, name):
        p = hyperparams_path(name)
        p = p if p.exists() else p.parent / "presets" / p.name
        self.blocks = yaml.safe_load(p.read_text())
        self.algo = self.blocks.pop("about", {}).get("algo", "ddpg_ext")

    def hyperparams(self, env) -> dict[str, Any]:
        return self.blocks.get(env) or self.blocks["default"]
