"""
Stable-Baselines3's own tests with our DDPG in the place of its DDPG and TD3:

clone stable-baselines3, then PYTHONPATH=tests pytest -p in_place_of_sb3 PATH/tests -k "DDPG or TD3 or ddpg or td3"
"""

import stable_baselines3

from sb3_ddpg_ext import DDPG


class TD3(DDPG):
    """With the defaults of Stable-Baselines3's TD3."""

    def __init__(self, policy, env, *args, policy_delay=2, target_policy_noise=0.2, policy_kwargs=None, **kwargs):
        policy_kwargs = {"n_critics": 2} | (policy_kwargs or {})
        more = dict(policy_delay=policy_delay, target_policy_noise=target_policy_noise, policy_kwargs=policy_kwargs)
        super().__init__(policy, env, *args, **more, **kwargs)


stable_baselines3.DDPG, stable_baselines3.TD3 = DDPG, TD3
