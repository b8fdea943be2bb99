"""Restore a file of your own: python enhance.py cat.gif cat.png."""

from unlossy.cli import enhance

if __name__ == "__main__":
    enhance()
