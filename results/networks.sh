#!/usr/bin/env bash
# Trains with several networks, critics, normalisations and replays and appends a row for each agent to a CSV file; see README.md here, "Networks".
#   results/networks.sh ENV CSV "KIND ..." "SEED ..." ["further -params"] [JOBS]
# Each agent is also evaluated every 10,000 steps on the way, 5 episodes, for "plot curves". BIN says where rl_zoo3 and python are.
set -euo pipefail
env=$1 csv=$2 kinds=$3 seeds=$4 params=${5:-} jobs=${6:-1}
bin=${BIN:-.venv/bin} logs=${LOGS:-logs/networks}
yaml=${CONF:-hyperparams/ddpg_ext.yml} net=${NET:-[256, 256]} steps=${STEPS:-100000}

one() {
    local kind=$1 seed=$2 folder="$logs/$env/$1/$2" options="" replay=""
    case $kind in
        plain) ;;
        ln-critic) options=", critic_norm='layer'" ;;
        ln-both) options=", actor_norm='layer', critic_norm='layer'" ;;
        two-critics) options=", n_critics=2" ;;
        obs-norm) options=", normalize_observations=True" ;;
        c51) options=", critic=dict(kind='categorical', n_atoms=101, v_min=-5, v_max=5), scale_returns=True" ;;
        n-step-*) replay="n_steps:${kind#n-step-}" ;;
        prioritized) replay="replay_buffer_kwargs:dict(sampling='prioritized')" ;;
        prioritized-n-step-*) replay="replay_buffer_kwargs:dict(sampling='prioritized') n_steps:${kind#prioritized-n-step-}" ;;
        *) echo "unknown kind $kind" >&2; return 1 ;;
    esac
    # shellcheck disable=SC2086  # params are several words
    "$bin/rl_zoo3" train --algo ddpg_ext --env "$env" -conf "$yaml" -n "$steps" --seed "$seed" --num-threads 1 \
        --eval-freq 10000 --eval-episodes 5 --verbose 0 -f "$folder" \
        -params policy_kwargs:"\"dict(net_arch=$net$options)\"" $replay $params
    "$bin/python" -m sb3_ddpg_ext report --env "$env" -f "$folder" --csv "$csv" --label "$kind"
}
export -f one
export env csv params bin logs yaml net steps

for seed in $seeds; do for kind in $kinds; do echo "$kind $seed"; done; done |
    xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1" || echo "failed: $0 $1" >&2'
