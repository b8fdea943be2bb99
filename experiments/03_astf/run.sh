#!/usr/bin/env bash
# 03: ASTF on H.265, less flicker at better perceptual quality? make experiment N=03
. experiments/steps.sh

for seed in $SEEDS; do
    train astf_small experiment=astf/small  # three stages, then their fusion
    # The filters were scored beside ASTF.
    train vrcnn model=vrcnn source=footage degradation=hevc loss=charbonnier optimizer=adam_astf optimizer.lr=2e-3 \
        trainer=astf_small data.batch=36 trainer.max_steps=1357 '~baselines'
done

publish
