"""
Systems of papers and tutorials by their names: python examples/from_preset.py

``python -m sb3_ddpg_ext presets`` lists them, and ``presets NAME`` says where one comes from and what is not as in its source.
It needs the extra zoo: pip install -c constraints.txt -e '.[zoo]'
"""

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.presets import load_preset


def main(total_timesteps: int | None = None) -> DDPG:
    preset = load_preset("rl_adventure2")
    print(preset.about["source"])

    # The preset's networks, noise, wrappers, callbacks and length; anything can be given another value.
    model = DDPG.from_preset("rl_adventure2", "Pendulum-v1", seed=0, policy_kwargs=dict(critic_norm="layer"))
    model.learn(total_timesteps)  # None: as long as the preset says
    mean, sd = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
    print(f"{model.num_timesteps} steps: mean return {mean:.0f} +/- {sd:.0f}")
    return model


if __name__ == "__main__":
    main()
