#!/usr/bin/env bash
# Trains on a task that hides velocities: with a memory, without one, with four stacked frames, and without hiding; see results/README.md, "Memory".
#   results/memory.sh CSV "recurrent feed-forward stacked observed" "SEED ..." [JOBS]
# Each agent is also evaluated every EVERY steps on the way, 5 episodes, for "plot curves". BIN says where rl_zoo3 and python are.
set -euo pipefail
csv=$1 kinds=$2 seeds=$3 jobs=${4:-1}
bin=${BIN:-.venv/bin} logs=${LOGS:-logs/memory} hidden=${HIDDEN:-PendulumNoVel-v1} observed=${OBSERVED:-Pendulum-v1} steps=${STEPS:-20000} every=${EVERY:-2000}

one() {
    local kind=$1 seed=$2 env=$hidden algo=ddpg_ext more=""
    case $kind in
        recurrent) algo=ddpg_ext_lstm ;;
        feed-forward) more="-conf hyperparams/presets/memory.yml" ;;
        stacked) more="-conf hyperparams/presets/memory.yml -params frame_stack:4" ;;
        observed) env=$observed more="-conf hyperparams/presets/memory.yml" ;;
        *) echo "unknown kind $kind" >&2; return 1 ;;
    esac
    local folder="$logs/$env/$kind/$seed"
    # shellcheck disable=SC2086  # more are several words
    "$bin/rl_zoo3" train --algo "$algo" --env "$env" -n "$steps" --seed "$seed" --num-threads 1 \
        --eval-freq "$every" --eval-episodes 5 --verbose 0 -f "$folder" $more
    "$bin/python" -m sb3_ddpg_ext report --algo "$algo" --env "$env" -f "$folder" --csv "$csv" --label "$kind"
}
export -f one
export csv bin logs hidden observed steps every

for seed in $seeds; do for kind in $kinds; do echo "$kind $seed"; done; done |
    xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1" || echo "failed: $0 $1" >&2'
