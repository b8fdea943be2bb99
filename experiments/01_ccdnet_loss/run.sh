#!/usr/bin/env bash
# 01: which loss for CCDNet, after how many steps of it? make experiment N=01
: "${SEEDS:=0 1 2}"  # of the headline pair; the grid has one
. experiments/steps.sh

# The filters have no seeds, and one test scores them for all. Two trainings share two cores: loaders of their own would only wait.
grid() {
    "$PYTHON" train.py -m sweep=ccdnet_loss run_root="$ROOT" logger=csv hydra/launcher=joblib data.workers=0 '~baselines' "$@" $ARGS
}

grid                                                                # l1, grad, gan, grad_gan after 1, 2, 3 steps, seed 0
grid loss=grad,grad_gan model.steps=2 seed="${SEEDS// /,}"          # CCDNet2's pair of the paper, with its spread
seed=0
score filters model=undither                                        # and the input, gaussian, bilateral and nlmeans

publish
