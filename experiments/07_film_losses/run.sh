#!/usr/bin/env bash
# 07: what do losses, and known motion, teach an interpolator? make experiment N=07
. experiments/steps.sh

for seed in $SEEDS; do
    train film_warmup experiment=flow/warmup
    for loss in l1 vgg style; do
        train "film_$loss" experiment=interpolation/film loss="film_$loss" start_ckpt="$(best film_warmup)" test=false
    done
    train slomo_warmup experiment=flow/superslomo
    train slomo experiment=interpolation/superslomo start_ckpt="$(best slomo_warmup)" test=false
done

seed=${SEEDS%% *}  # losses.csv, displacement.csv and the figures are of the first
last() { echo "$(dirname "$(best "$1")")/last.ckpt"; }
"$PYTHON" "$HERE/sharpness.py" "$LAB" L1="$(last film_l1)" VGG="$(last film_vgg)" style="$(last film_style)"
"$PYTHON" "$HERE/displacement.py" "$LAB" "FILM warm-up=$(best film_warmup)" FILM="$(best film_l1)" \
    "SuperSloMo warm-up=$(best slomo_warmup)" SuperSloMo="$(best slomo)"

publish
