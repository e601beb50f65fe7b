"""The numbers of a tar's headers.

In: a field's bytes. Out: its number. Touches nothing.
"""

from __future__ import annotations

from functools import lru_cache

from buildorch.errors import MalformedDocument

_DIGITS = 19
"""Of the largest 64-bit number."""


def number(field: bytes) -> int:
    """A header's field: octal digits in blanks or NULs, or base 256 in two's complement, as GNU has it.

    Raises:
        MalformedDocument: it is neither, or no 64-bit number.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        found = int.from_bytes(field, "big") & ((1 << bits) - 1)
        found -= (field[0] & 0x40) << (bits - 6)
        if not -(1 << 63) <= found < 1 << 63:
            raise _none(field)
        return found
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise _none(field)
    return int(digits, 8)


repeated_number = lru_cache(maxsize=4096)(number)
"""`number`, for fields that are the same in one entry after another."""


def decimal(text: bytes) -> int:
    """A number of an extended header or a sparse map.

    Raises:
        MalformedDocument: it is no 64-bit number.
    """
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise _none(text)
    return int(text)


def _none(field: bytes) -> MalformedDocument:
    return MalformedDocument("layer", f"a number in a header of its tar is {field[:24]!r}")
