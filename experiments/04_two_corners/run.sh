#!/usr/bin/env bash
# 04: can a network say "one corner or the other"? make experiment N=04
. experiments/steps.sh

for seed in $SEEDS; do
    train recursive experiment=two_corners/recursive
    train cross_entropy experiment=two_corners/cross_entropy
    train regression experiment=two_corners/regression
done

measure measure.py best recursive=recursive cross-entropy=cross_entropy L2=regression

publish
