#!/usr/bin/env bash
# 00: what does `make train` give? make experiment N=00
. experiments/steps.sh

for seed in $SEEDS; do
    train default model=ccdnet loss=grad_gan
done

publish
