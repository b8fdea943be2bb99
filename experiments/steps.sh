# What the experiments' run.sh share; each sources it from the repository's root.
#
#     train NAME OVERRIDES...   trains into $ROOT/$seed/NAME; skips what is finished, goes on with what was killed
#     best NAME                 the best checkpoint of that training
#     score NAME OVERRIDES...   evaluates ckpt=... or model=... into $ROOT/$seed/NAME, unless that was done
#     measure SCRIPT KIND LABEL=NAME...   runs a script of the experiment as SCRIPT $ROOT/measured LABEL@SEED=CHECKPOINT ..., with
#                               the checkpoints of every seed of which all NAMEs are trained; KIND is best or last
#     publish                   writes rows, run cards, figures and what was measured into $LAB, and makes the tables anew
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
    found=$(find "$ROOT/$seed/$1" -path "*/checkpoints/best.ckpt" -not -path "*/stages/*" 2>/dev/null | sort | tail -n 1) || true
    [ -n "$found" ] || { echo "There is no checkpoint of $1 under $ROOT/$seed." >&2 && return 1; }
    echo "$found"
}

score() {
    local name=$1 ckpt card
    shift
    ckpt=$(printf '%s\n' "$@" | sed -n 's/^ckpt=//p')
    for card in "$ROOT/$seed/$name"/*/run.json; do
        if { [ -z "$ckpt" ] || grep -qsF "\"checkpoint\": \"$ckpt\"" "$card"; } && grep -qs '"seconds"' "$card"; then
            echo "$name: scored before"
            return
        fi
    done
    # shellcheck disable=SC2086
    "$PYTHON" eval.py name="$name" run_root="$ROOT/$seed" seed="$seed" "$@" $EVAL_ARGS
}

measure() {
    local script=$1 kind=$2 folder pair path own checkpoints=()
    shift 2
    for folder in "$ROOT"/[0-9]*/; do  # of earlier commands, too: publish takes their rows
        seed=$(basename "$folder") own=()
        for pair in "$@"; do
            grep -qs '"seconds"' "$folder${pair#*=}"/*/run.json || continue 2
            path=$(best "${pair#*=}")
            own+=("${pair%%=*}@$seed=$(dirname "$path")/$kind.ckpt")
        done
        checkpoints+=("${own[@]}")
    done
    [ -n "${MEASURED:-}" ] || rm -rf "$ROOT/measured"  # of another time
    MEASURED=yes
    mkdir -p "$ROOT/measured"
    "$PYTHON" "$HERE/$script" "$ROOT/measured" "${checkpoints[@]}"
}

publish() {
    "$PYTHON" report.py "$ROOT" --publish "$LAB"
    [ "$LAB" != "$HERE" ] || "$PYTHON" report.py --tables
}
