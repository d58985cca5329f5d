"""Arithmetic on CQL numbers: which type comes out, what is refused, and what CAST makes of numbers.

Sums, differences and products of decimals are exact (up to DIGITS_MAX digits). Results that are out of the
bounds of their type are refused; only CAST cuts off, as Cassandra's does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    Context as DecimalContext,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from operator import add
from typing import Any, Final

from core.limits import NUMBER_DIGITS_MAX
from cql_lite.errors import InvalidRequestError
from cql_lite.types import (
    BIGINT,
    COUNTER,
    DECIMAL,
    DOUBLE,
    FLOAT,
    INT,
    SMALLINT,
    TINYINT,
    VARINT,
    InvalidValueError,
    Type,
)  # fmt: skip

INTEGERS: Final = (TINYINT, SMALLINT, INT, BIGINT, VARINT)
NUMBERS: Final = (*INTEGERS, FLOAT, DOUBLE, DECIMAL, COUNTER)
DIGITS: Final = 34
"""Of a quotient of decimals (IEEE 754 decimal128)."""

DIGITS_MAX: Final = 10_000
"""Of a sum, difference or product of decimals, and of a decimal that becomes an integer."""

_CONTEXT: Final = DecimalContext(prec=DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX)
_EXACT: Final = DecimalContext(
    prec=DIGITS_MAX, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact, InvalidOperation, DivisionByZero]
)
_EXACTLY: Final = {"+": _EXACT.add, "-": _EXACT.subtract, "*": _EXACT.multiply}
FLOAT_BOUND: Final = 2.0**128 - 2.0**103
"""From here on numbers are infinite as floats of 32 bits."""
_BITS: Final[dict[Type, int]] = {TINYINT: 8, SMALLINT: 16, INT: 32, BIGINT: 64}


def is_number(of: Type) -> bool:
    """Whether values of the type can be computed with."""
    return of in NUMBERS


def is_double(text: str) -> bool:
    """Whether a constant with a fraction or an exponent is a double exactly, as far as its digits say; NaN
    and Infinity are.
    """
    number = float(text)
    if not math.isfinite(number):
        return not any(sign.isdigit() for sign in text)
    try:
        return Decimal(repr(number)) == Decimal(text)
    except InvalidOperation:
        return False


def common(a: Type, b: Type) -> Type:
    """The type of a result of numbers of these types."""
    a, b = (BIGINT if of == COUNTER else of for of in (a, b))
    if DECIMAL in (a, b):
        return DECIMAL
    if a in INTEGERS and b in INTEGERS:
        return INTEGERS[max(INTEGERS.index(a), INTEGERS.index(b))]
    if VARINT in (a, b):
        return DECIMAL
    return DOUBLE if DOUBLE in (a, b) or BIGINT in (a, b) else FLOAT


def converted(value: Any, of: Type) -> Any:
    """A Python number as one of this type; a fraction is cut off for integers."""
    try:
        if of in INTEGERS or of == COUNTER:
            if isinstance(value, Decimal) and value and value.adjusted() > DIGITS_MAX:
                raise OverflowError
            return int(value)
        if of == DECIMAL:
            if isinstance(value, float) and not math.isfinite(value):
                raise OverflowError
            return value if isinstance(value, Decimal) else Decimal(str(value))
        return float(value)
    except (ValueError, OverflowError, InvalidOperation):
        raise InvalidRequestError(f"{value} is no value of type {of}") from None


def narrowed(value: Any, of: Type) -> Any:
    """A number as CAST makes it one of this type, which in a narrow type may be another number.

    Integers keep their low bits. A float that is no int or bigint becomes the nearest one (NaN becomes 0),
    and what is even narrower keeps that one's low bits. Raises InvalidRequestError if nothing is left.
    """
    if of == COUNTER:
        of = BIGINT
    bits = _BITS.get(of)
    if bits is None:
        return converted(value, of)
    if isinstance(value, float):
        if math.isnan(value):
            return 0
        bound = 1 << (max(bits, 32) - 1)
        value = -bound if value <= -bound else bound - 1 if value >= bound else int(value)
    low = int(converted(value, VARINT)) & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low


def computed(sign: str, left: Any, right: Any, of: Type) -> Any:
    """`left sign right`, both of type `of`; raises ArithmeticError."""
    try:
        if of == DECIMAL and sign in _EXACTLY:
            return _shortened(_EXACTLY[sign](left, right))
        if sign == "+":
            return left + right
        if sign == "-":
            return left - right
        if sign == "*":
            return left * right
        if sign == "/":
            return quotient(left, right, of)
        return _remainder(left, right, of)
    except (ZeroDivisionError, DivisionByZero, InvalidOperation):
        raise ArithmeticError("/ by zero" if not right else f"{left} {sign} {right}") from None
    except (OverflowError, Overflow, Inexact):
        raise ArithmeticError(f"{left} {sign} {right} is out of bounds") from None


def plus(of: Type) -> Callable[[Any, Any], Any]:
    """How numbers of the type are added; raises InvalidRequestError for what has too many digits."""
    return _sum_of_decimals if of == DECIMAL else add


def _sum_of_decimals(left: Any, right: Any) -> Any:
    try:
        return _shortened(_EXACT.add(left, right))
    except Inexact:
        raise InvalidRequestError(f"a sum of decimals has more than {DIGITS_MAX} digits") from None


def _shortened(found: Decimal) -> Decimal:
    """The same number; without zeros at its end if it was filled up with them: 0 + 1E+2000000."""
    return found.normalize(_EXACT) if len(found.as_tuple().digits) > NUMBER_DIGITS_MAX else found


def quotient(left: Any, right: Any, of: Type) -> Any:
    """A quotient; that of integers is cut towards zero, decimals have up to DIGITS digits."""
    if of in INTEGERS:
        found = abs(left) // abs(right)
        return found if (left < 0) == (right < 0) else -found
    if of == DECIMAL:
        return _CONTEXT.divide(Decimal(left), Decimal(right))
    if right == 0:
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    return left / right


def _remainder(left: Any, right: Any, of: Type) -> Any:
    if of in INTEGERS:
        found = abs(left) % abs(right)
        return -found if left < 0 else found
    if of == DECIMAL:
        return _shortened(_EXACT.remainder(left, right))
    return math.fmod(left, right) if right and not math.isinf(left) else math.nan


def encoded(value: Any, of: Type) -> bytes:
    """Wire bytes of a number; raises InvalidRequestError if it is out of the type's bounds.

    There are none for floats: what is too large is infinite.
    """
    if of == FLOAT and abs(value) >= FLOAT_BOUND:
        value = math.copysign(math.inf, value)
    try:
        return of.encode(value)
    except InvalidValueError as error:
        raise InvalidRequestError(f"{error}: cast to a wider type") from None
