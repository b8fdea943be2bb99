#!/usr/bin/env bash
# 05: what does the prior add on real patches, and what the auxiliary loss? make experiment N=05
. experiments/steps.sh

for seed in $SEEDS; do
    train small experiment=pixelsr/small test=false
    train without experiment=pixelsr/small loss.terms.conditioning.weight=0
    train cross_entropy experiment=pixelsr/small_cross_entropy
    train regression experiment=pixelsr/small_regression
    # Four draws of each way, and the training patch that is nearest.
    score small_scored ckpt="$(best small)" source=patches32 degradation=downscale metrics=stills metrics.samples=4 save=true \
        +model@baselines.nearest_patch=nearest_patch
done

measure measure.py best auxiliary=small without=without L2=regression
seed=${SEEDS%% *}
"$PYTHON" report.py "$(dirname "$(find "$ROOT/$seed/small_scored" -name rows.csv | sort | tail -n 1)")" --proxy --of pixelsr:t1

publish
