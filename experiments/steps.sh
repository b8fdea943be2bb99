# What the experiments' run.sh share; each sources it from the repository's root.
#
#     train NAME OVERRIDES...   trains into $ROOT/$seed/NAME; skips what is finished, goes on with what was killed
#     best NAME                 the best checkpoint of that training
#     every KIND LABEL=NAME...  fills the array `checkpoints` with LABEL=CHECKPOINT of every seed, KIND being best or last
#     score NAME OVERRIDES...   evaluates into $ROOT/$seed/NAME, unless it was done
#     publish                   writes rows, run cards and figures into $LAB, and makes the tables anew
#
# PYTHON, ROOT (where runs lie), SEEDS, ARGS (further overrides of trainings) and EVAL_ARGS (of evaluations) come from the
# environment; `make experiment` sets them. With ARGS or EVAL_ARGS it is a trial: its runs lie in $ROOT-trial, apart from those
# of the experiment, and are published into a temporary folder.
set -euo pipefail

HERE=experiments/$(basename "$(dirname "$0")")
: "${PYTHON:=.venv/bin/python}" "${ROOT:=runs/experiments/$(basename "$HERE" | cut -c1-2)}" "${SEEDS:=0}"
: "${ARGS:=}" "${EVAL_ARGS:=}"
LAB=$HERE
if [ -n "$ARGS$EVAL_ARGS" ]; then
    ROOT=${ROOT%/}-trial
    LAB=$(mktemp -d)
fi

train() {
    local name=$1
    shift
    # shellcheck disable=SC2086  # ARGS are words
    "$PYTHON" train.py -m name="$name" run_root="$ROOT/$seed" seed="$seed" logger=csv "$@" $ARGS
}

best() {
    local found
    found=$(find "$ROOT/$seed/$1" -path "*/checkpoints/best.ckpt" -not -path "*/stages/*" | sort | tail -n 1)
    [ -n "$found" ] || { echo "There is no checkpoint of $1 under $ROOT/$seed." >&2 && return 1; }
    echo "$found"
}

every() {
    local kind=$1 pair path
    shift
    checkpoints=()
    for seed in $SEEDS; do
        for pair in "$@"; do
            path=$(best "${pair#*=}")
            checkpoints+=("${pair%%=*}=$(dirname "$path")/$kind.ckpt")
        done
    done
}

score() {
    local name=$1
    shift
    if compgen -G "$ROOT/$seed/$name/*/rows.csv" >/dev/null; then
        echo "$name: scored before"
    else
        # shellcheck disable=SC2086
        "$PYTHON" eval.py name="$name" run_root="$ROOT/$seed" seed="$seed" "$@" $EVAL_ARGS
    fi
}

publish() {
    "$PYTHON" report.py "$ROOT" --publish "$LAB"
    [ "$LAB" != "$HERE" ] || "$PYTHON" report.py --tables
}
