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

measure sharpness.py last L1=film_l1 VGG=film_vgg style=film_style
measure displacement.py best "FILM warm-up=film_warmup" FILM=film_l1 "SuperSloMo warm-up=slomo_warmup" SuperSloMo=slomo

publish
