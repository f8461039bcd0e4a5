"""Values of the file of budgets: numbers that are read exactly, and what is said of those that cannot be used."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BeforeValidator

from avatar_pipeline.budget.types import MICRO

MOST_AMOUNT = Decimal(10**12)
"""The ledger counts in millionths: sums of more would not fit its columns."""
_MOST_DIGITS = 40


class Wrong(ValueError):
    """A field's value cannot be used; `remedy` for a person."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def _decimal(value: object) -> Decimal:
    # A float is read through its text: 0.1 in the file is 0.1 dollars, not the binary number beside it.
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise Wrong(f"{shown(value)} is not a number", "Write a number such as 200 or 0.25.")
    text = str(value).strip()
    try:
        number = Decimal(text if len(text) <= _MOST_DIGITS else "")
    except InvalidOperation:
        raise Wrong(f"{shown(value)} is not a number", "Write a number such as 200 or 0.25.") from None
    if not number.is_finite():
        raise Wrong(f"{shown(value)} is not a finite number", "Write a number such as 200 or 0.25.")
    return number


def _amount(value: object) -> Decimal:
    number = _decimal(value)
    if not 0 <= number <= MOST_AMOUNT:
        raise Wrong(f"{number} is not from 0 to {MOST_AMOUNT:,}", "Write 0 to let nothing through, or more.")
    if number != number.quantize(MICRO):
        raise Wrong(f"{number} has more than six decimal places", "Round it to a millionth.")
    return abs(number)  # of -0 too


def _share(value: object) -> Decimal:
    number = _decimal(value)
    if not 0 < number <= 10:
        raise Wrong(f"{number} is not above 0 and at most 10", "Write a share of the limit: 0.8 is 80 %.")
    if number != number.quantize(MICRO):
        raise Wrong(f"{number} has more than six decimal places", "Round it to a millionth.")
    return number


def _part(value: object) -> Decimal:
    number = _decimal(value)
    if not 0 <= number <= 1:
        raise Wrong(f"{number} is not from 0 to 1", "Write a share of the limit: 0.8 is 80 %.")
    return number


def _factor(value: object) -> Decimal:
    number = _decimal(value)
    if not 0 <= number <= 100:
        raise Wrong(f"{number} is not from 0 to 100", "Write how often such work is expected to run again, say 0.5.")
    return number


Amount = Annotated[Decimal, BeforeValidator(_amount)]
Share = Annotated[Decimal, BeforeValidator(_share)]
Part = Annotated[Decimal, BeforeValidator(_part)]
Factor = Annotated[Decimal, BeforeValidator(_factor)]


def shown(value: object) -> str:
    """Return a value short enough for a message; what is nested is not spelled out."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:60] + "...")
    return repr(value)[:60] if isinstance(value, bool | int | float | Decimal | None) else f"a {type(value).__name__}"
