"""Train one configuration: python train.py model=ccdnet loss=grad_gan."""

from unlossy.cli import train

if __name__ == "__main__":
    train()
