"""Arguments of degradations, checked at construction: each refusal names the field and the range.

True and False are Python's 1 and 0; here they are no numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from unlossy.errors import UserError


def check_whole(field: str, value: int, low: int, high: int) -> None:
    """Raise a UserError unless `value` is a whole number in low..high."""
    if isinstance(value, bool) or not (isinstance(value, int) and low <= value <= high):
        raise UserError(
            f"degradation.{field}={value} is impossible; "
            f"choose a whole number from {low} to {high}."
        )


def check_within(field: str, value: float, low: float, high: float) -> None:
    """Raise a UserError unless `value` is a number in low..high."""
    if isinstance(value, bool) or not (isinstance(value, int | float) and low <= value <= high):
        raise UserError(
            f"degradation.{field}={value} is impossible; choose a number from {low} to {high}."
        )


def check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    """Raise a UserError that lists the choices if `value` is none of them."""
    if value not in choices:
        known = ", ".join(choices)
        raise UserError(f"degradation.{field}={value} is unknown; choose one of {known}.")


def check_colors(field: str, colors: int) -> None:
    """Raise a UserError if no GIF palette has that many entries."""
    if not (isinstance(colors, int) and 2 <= colors <= 256):
        raise UserError(
            f"{colors} colours asked for (degradation.{field}), but a GIF palette holds 2 to 256; "
            "choose a whole number in that range."
        )


def check_every(every: int) -> None:
    """Raise a UserError if frames cannot be kept at that step."""
    if isinstance(every, bool) or not (isinstance(every, int) and every >= 1):
        raise UserError(f"degradation.every={every} keeps no frame; use a whole number from 1 on.")
