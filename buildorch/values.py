"""`dataclass`, ready in a third of the time: the least that a command does makes eighty such classes before it begins.

In: a class. Out: what `dataclasses.dataclass` gives. Touches nothing.

The standard one compiles six methods for every frozen class, which takes a millisecond (Python 3.11). Here `__init__`
alone is compiled; the other five are the same functions for all. Type checkers are shown the standard one.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass

__all__ = ["dataclass"]


def _dataclass(
    *, frozen: bool = False, slots: bool = False, kw_only: bool = False, order: bool = False
) -> Callable[[type], type]:
    """As `dataclasses.dataclass`."""

    def make(cls: type) -> type:
        if order or not frozen or not slots:
            return dataclasses.dataclass(frozen=frozen, slots=slots, kw_only=kw_only, order=order)(cls)
        for name, method in _METHODS.items():
            if name not in vars(cls):
                setattr(cls, name, method)
        return dataclasses.dataclass(eq=False, repr=False, slots=slots, kw_only=kw_only)(cls)

    return make


_compared_of: dict[type, Callable[[object], object]] = {}
"""Class -> what gives the values of its fields that count for equality."""


def _compared(value: object) -> object:
    cls = type(value)
    if cls not in _compared_of:
        names = [one.name for one in dataclasses.fields(cls) if one.compare]  # type: ignore[arg-type]
        _compared_of[cls] = attrgetter(*names) if names else lambda _: ()
    return _compared_of[cls](value)


def _repr(self: object) -> str:
    fields = [one.name for one in dataclasses.fields(self) if one.repr]  # type: ignore[arg-type]
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"


def _eq(self: object, other: object) -> bool:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: object) -> int:
    return hash(_compared(self))


def _set(self: object, name: str, value: object) -> None:
    """Each field once: that is `__init__`'s."""
    if hasattr(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delete(_: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS = {"__repr__": _repr, "__eq__": _eq, "__hash__": _hash, "__setattr__": _set, "__delattr__": _delete}
if not TYPE_CHECKING:
    dataclass = _dataclass
