"""Exact arithmetic on the numbers of documents: int and Decimal.

Whole numbers stay whole numbers and fractions decimal, so sums do not depend on their order. What would
have more than 1,000 digits is rounded to so many: a product of products must not fill a peer's memory.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from core.json_values import exact, is_number
from core.limits import NUMBER_EXPONENT_MAX

Number = int | Decimal


class NotComputableError(Exception):
    """A function cannot take these values; says why, for people."""


DIGITS_MAX: Final = 1_000
BITS_MAX: Final = 3_300
"""About DIGITS_MAX digits."""
QUOTIENT_DIGITS: Final = 34
"""Of quotients, averages and roots: those of IEEE 754's decimal128."""


def _context(digits: int) -> Context:
    return Context(
        prec=digits, rounding=ROUND_HALF_EVEN, Emax=NUMBER_EXPONENT_MAX, Emin=-NUMBER_EXPONENT_MAX, traps=[]
    )


_EXACT: Final = _context(DIGITS_MAX)
_QUOTIENT: Final = _context(QUOTIENT_DIGITS)


def number(value: Any) -> Number:
    """A JSON number as an int or the Decimal that is exactly what was written."""
    return value if isinstance(value, int) else exact(value)


def decimal(value: Number) -> Decimal:
    """A number as a Decimal, rounded to DIGITS_MAX digits."""
    return _EXACT.create_decimal(value)


def absolute(a: Number) -> Number:
    """The number without its sign, and with all its digits."""
    return a.copy_abs() if isinstance(a, Decimal) else abs(a)


def finite(found: Decimal) -> Decimal:
    """A result, 0 if it is too close to that. Raises NotComputableError for what is beyond all numbers."""
    if not found.is_finite():
        raise NotComputableError("the result is beyond all numbers")
    return found if found.adjusted() >= -NUMBER_EXPONENT_MAX else Decimal(0)


def add(a: Number, b: Number) -> Number:
    """The sum."""
    if isinstance(a, int) and isinstance(b, int):
        return _bounded(a + b)
    return finite(_EXACT.add(decimal(a), decimal(b)))


def subtract(a: Number, b: Number) -> Number:
    """The difference."""
    if isinstance(a, int) and isinstance(b, int):
        return _bounded(a - b)
    return finite(_EXACT.subtract(decimal(a), decimal(b)))


def multiply(a: Number, b: Number) -> Number:
    """The product."""
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() <= BITS_MAX:
        return a * b
    return finite(_EXACT.multiply(decimal(a), decimal(b)))


def _bounded(found: int) -> Number:
    return found if found.bit_length() <= BITS_MAX else decimal(found)


def divide(a: Number, b: Number) -> Number:
    """The quotient: a whole number if it is one, else a decimal of QUOTIENT_DIGITS digits."""
    if b == 0:
        raise NotComputableError("cannot divide by 0")
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return finite(_QUOTIENT.divide(decimal(a), decimal(b)))


def remainder(a: Number, b: Number) -> Number:
    """What is left of `a`, with its sign."""
    if b == 0:
        raise NotComputableError("cannot divide by 0")
    if isinstance(a, int) and isinstance(b, int):
        left = abs(a) % abs(b)
        return -left if a < 0 else left
    found = _EXACT.remainder(decimal(a), decimal(b))
    if not found.is_finite():
        raise NotComputableError("these numbers are too far apart for a remainder")
    return found


def square_root(a: Number) -> Number:
    """The root, of QUOTIENT_DIGITS digits; whole if it is."""
    if a < 0:
        raise NotComputableError("a negative number has no square root")
    return shortened(_QUOTIENT.sqrt(decimal(a)))


def shortened(found: Decimal) -> Number:
    """A whole number if it is one of few digits."""
    if abs(found.adjusted()) < QUOTIENT_DIGITS and found == found.to_integral_value():
        return int(found)
    return found


def rounded(value: Number, places: int, rounding: str) -> Number:
    """To so many decimal places (negative: tens, hundreds), by one of decimal's ways of rounding."""
    if not -DIGITS_MAX <= places <= DIGITS_MAX:
        raise NotComputableError(f"digits after the point are {-DIGITS_MAX} to {DIGITS_MAX}")
    if isinstance(value, int) and places >= 0:
        return value
    long = decimal(value)
    if long.adjusted() > DIGITS_MAX // 2 or long.adjusted() + places > DIGITS_MAX // 2:
        return value
    found = long.quantize(Decimal((0, (1,), -places)), rounding, _EXACT)
    return int(found) if places <= 0 else finite(found)


def average(total: Number, count: int) -> Number:
    """The mean."""
    return divide(total, count)


def deviation(count: int, total: Number, squares: Number, sample: bool) -> Number | None:
    """The standard deviation from the sum and the sum of the squares, which are exact."""
    divisor = count - 1 if sample else count
    if divisor <= 0:
        return None
    spread = subtract(multiply(count, squares), multiply(total, total))
    if spread < 0:  # only where sums were rounded
        spread = 0
    return square_root(decimal_quotient(spread, count * divisor))


def decimal_quotient(a: Number, b: Number) -> Decimal:
    """The quotient with all the digits that a root needs."""
    return finite(_EXACT.divide(decimal(a), decimal(b)))


WHOLE_DIGITS_MAX: Final = 1_000


def whole(value: Any) -> int | None:
    """The whole number that a value is, 2.0 being one; None for anything else, or one beyond 1,000 digits."""
    if not is_number(value):
        return None
    if isinstance(value, int):
        return value
    number = exact(value)
    if number.adjusted() > WHOLE_DIGITS_MAX:
        return None
    return int(number) if number == number.to_integral_value() else None
