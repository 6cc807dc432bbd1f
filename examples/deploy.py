"""
Train, export the actor alone, and act with it where there is NumPy and nothing else: python examples/deploy.py

What the other machine needs are three files: deploy.py, runtime.py, actor.safetensors; there: python deploy.py FOLDER
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import numpy as np


def on_the_robot(folder: str, n_steps: int = 200) -> float:
    """Swing up a pendulum, with neither torch nor gymnasium."""
    sys.path.insert(0, folder)
    from runtime import load  # the copy in the folder

    actor, angle, speed, total = load(Path(folder) / "actor.safetensors"), np.pi, 0.0, 0.0
    for _ in range(n_steps):
        (torque,), _ = actor.predict(np.array([np.cos(angle), np.sin(angle), speed]))
        total -= (angle % (2 * np.pi) - 2 * np.pi * (angle % (2 * np.pi) > np.pi)) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
        angle += speed * 0.05
    return float(total)


def main(total_timesteps: int = 10_000, folder: str | None = None) -> str:
    from sb3_ddpg_ext import DDPG, runtime
    from sb3_ddpg_ext.export import export

    folder = folder or mkdtemp()
    model = DDPG("MlpPolicy", "Pendulum-v1", gamma=0.98, action_noise="normal_0.1", seed=0).learn(total_timesteps)
    export(model, Path(folder) / "actor.safetensors", "safetensors")
    for file in (runtime.__file__, __file__):
        shutil.copy(file, folder)
    command = [sys.executable, str(Path(folder) / "deploy.py"), folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(main() if len(sys.argv) == 1 else f"Return {on_the_robot(sys.argv[1]):.0f}, torch loaded: {'torch' in sys.modules}")
