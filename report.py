"""Collect runs into tables and plots: python report.py runs."""

from unlossy.cli import report

if __name__ == "__main__":
    report()
