#!/usr/bin/env bash
# 02: any model on any medium? make experiment N=02
. experiments/steps.sh

# The filters have no seeds: they are scored once for each medium, beside VRCNN.
for seed in $SEEDS; do
    for medium in hevc gif; do
        common="source=footage degradation=$medium loss=charbonnier optimizer=adam_astf optimizer.lr=2e-3 trainer=astf_small"
        train "vrcnn_$medium" model=vrcnn $common data.batch=36 trainer.max_steps=357 trainer.val_check_interval=357
        train "ccdnet_$medium" model=ccdnet model.embed_quantizer=false $common data.batch=16 trainer.max_steps=584 \
            trainer.val_check_interval=584 '~baselines'
        train "basicvsr_$medium" model=basicvsr model.channels=24 model.blocks=2 $common data.batch=12 data.frames=3 \
            trainer.max_steps=273 trainer.val_check_interval=273 '~baselines'
    done
done

publish
