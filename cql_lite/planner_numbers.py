"""Arithmetic on CQL numbers: which type comes out, and what is refused."""

from __future__ import annotations

import math
from decimal import (
    Context as DecimalContext,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import Any, Final

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

_CONTEXT: Final = DecimalContext(prec=DIGITS)


def is_number(of: Type) -> bool:
    """Whether values of the type can be computed with."""
    return of in NUMBERS


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
            return int(value)
        if of == DECIMAL:
            return value if isinstance(value, Decimal) else Decimal(str(value))
        return float(value)
    except (ValueError, OverflowError, InvalidOperation):
        raise InvalidRequestError(f"{value} is no value of type {of}") from None


def computed(operator: str, left: Any, right: Any, of: Type) -> Any:
    """left operator right, both of type `of`; raises ArithmeticError."""
    try:
        if operator == "+":
            return left + right
        if operator == "-":
            return left - right
        if operator == "*":
            return left * right
        if operator == "/":
            return quotient(left, right, of)
        return _remainder(left, right, of)
    except (ZeroDivisionError, DivisionByZero, InvalidOperation):
        raise ArithmeticError("/ by zero" if not right else f"{left} {operator} {right}") from None
    except (OverflowError, Overflow):
        raise ArithmeticError(f"{left} {operator} {right} is out of bounds") from None


def quotient(left: Any, right: Any, of: Type) -> Any:
    """A quotient; that of integers is cut towards zero, decimals have up to DIGITS digits."""
    if of in INTEGERS:
        found = abs(left) // abs(right)
        return found if (left < 0) == (right < 0) else -found
    if of == DECIMAL:
        with localcontext(_CONTEXT):
            return Decimal(left) / Decimal(right)
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
        return left % right
    return math.fmod(left, right) if right else math.nan


def encoded(value: Any, of: Type) -> bytes:
    """Wire bytes of a number; raises InvalidRequestError if it is out of the type's bounds."""
    try:
        return of.encode(value)
    except InvalidValueError as error:
        raise InvalidRequestError(f"{error}: cast to a wider type") from None
