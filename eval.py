"""Score a checkpoint or a baseline: python eval.py ckpt=PATH."""

from unlossy.cli import evaluate

if __name__ == "__main__":
    evaluate()
