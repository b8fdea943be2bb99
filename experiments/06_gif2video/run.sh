#!/usr/bin/env bash
# 06: a GIF into a video, colours and frames at once? make experiment N=06
. experiments/steps.sh

for seed in $SEEDS; do
    train colors model=ccdnet loss=grad_gan test=false
    train warmup experiment=flow/superslomo
    train slomo experiment=interpolation/superslomo start_ckpt="$(best warmup)" test=false
    train gif2video experiment=gif2video/small colors_ckpt="$(best colors)" slomo_ckpt="$(best slomo)" test=false
    for factor in 2 4 8; do
        medium="metrics=pixel source=footage degradation=drop_frames_gif degradation.parts.drop.factor=$factor"
        score "gif2video_$factor" ckpt="$(best gif2video)" $medium
        score "slomo_$factor" ckpt="$(best slomo)" $medium
    done
    score gif2video_1 ckpt="$(best gif2video)" metrics=pixel source=footage degradation=gif
done

publish
