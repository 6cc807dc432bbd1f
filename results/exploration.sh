#!/usr/bin/env bash
# Trains with several kinds of exploration noise and appends a row for each agent to a CSV file; see README.md here, "Exploration".
#   results/exploration.sh ENV CSV "KIND ..." "SEED ..." ["further -params"] [JOBS]
# A kind is a noise's spec, with "+ln" behind it for LayerNorm in actor and critic. BIN says where rl_zoo3 and python are.
set -euo pipefail
env=$1 csv=$2 kinds=$3 seeds=$4 params=${5:-} jobs=${6:-1}
bin=${BIN:-.venv/bin} logs=${LOGS:-logs/exploration}
yaml=${CONF:-hyperparams/ddpg_ext.yml} net=${NET:-[256, 256]} steps=${STEPS:-100000}

one() {
    local kind=$1 seed=$2 folder="$logs/$env/$1/$2" norm=""
    case $kind in *+ln) norm=", actor_norm='layer', critic_norm='layer'" ;; esac
    # shellcheck disable=SC2086  # params are several words
    "$bin/rl_zoo3" train --algo ddpg_ext --env "$env" -conf "$yaml" -n "$steps" --seed "$seed" --num-threads 1 --eval-freq -1 \
        --verbose 0 -f "$folder" -params action_noise:"'${kind%+ln}'" policy_kwargs:"\"dict(net_arch=$net$norm)\"" $params
    "$bin/python" -m sb3_ddpg_ext report --env "$env" -f "$folder" --csv "$csv" --label "$kind"
}
export -f one
export env csv params bin logs yaml net steps

for seed in $seeds; do for kind in $kinds; do echo "$kind $seed"; done; done |
    xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1" || echo "failed: $0 $1" >&2'
