"""`buildorch.values.dataclass` gives what `dataclasses.dataclass` gives."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from buildorch import values

Make = Callable[..., Any]


def classes(dataclass: Make) -> tuple[Any, Any, Any]:
    """The same classes by one decorator or another."""

    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 2
        note: str = field(default="", compare=False)
        hidden: list[int] = field(default_factory=list, repr=False, compare=False)

        @property
        def sum(self) -> int:
            return self.x + self.y

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        name: str
        point: Point

        def __repr__(self) -> str:
            return f"<{self.name}>"

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    return Point, Named, Nothing


@pytest.fixture(params=[dataclasses.dataclass, values.dataclass], ids=["the standard one", "ours"])
def made(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    return classes(request.param)


def test_it_is_shown_compared_and_hashed_by_its_fields(made: tuple[Any, Any, Any]):
    point, named, nothing = made

    assert repr(point(1)) == f"{point.__qualname__}(x=1, y=2, note='')"
    assert repr(named(name="a", point=point(1))) == "<a>"
    assert point(1, note="one") == point(1, hidden=[1]) != point(1, 3)
    assert point(1) != (1, 2)
    assert {point(1): "one"}[point(1, note="other")] == "one"
    assert nothing() == nothing()
    assert hash(nothing()) == hash(nothing())
    assert named(name="a", point=point(1)) == named(name="a", point=point(1))


def test_it_is_no_other_class_of_equal_fields():
    assert classes(values.dataclass)[0](1) != classes(values.dataclass)[0](1)


def test_it_never_changes(made: tuple[Any, Any, Any]):
    point = made[0](1)

    with pytest.raises(FrozenInstanceError):
        point.x = 2
    with pytest.raises(FrozenInstanceError):
        del point.x
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        point.other = 1
    assert (point.x, point.sum) == (1, 3)


def test_it_is_replaced_copied_and_taken_apart(made: tuple[Any, Any, Any]):
    point, named, _ = made
    one = named(name="a", point=point(1, hidden=[7]))

    assert dataclasses.replace(one, name="b") == named(name="b", point=point(1))
    assert dataclasses.asdict(one) == {"name": "a", "point": {"x": 1, "y": 2, "note": "", "hidden": [7]}}
    assert copy.deepcopy(one) == one
    assert copy.copy(one) == one
    assert point.__match_args__ == ("x", "y", "note", "hidden")
    assert not hasattr(one, "__dict__")


def test_wrong_arguments_are_refused(made: tuple[Any, Any, Any]):
    point, named, _ = made

    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        point(1, z=3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        point()
    with pytest.raises(TypeError, match="positional argument"):
        named("a", point(1))


@values.dataclass(frozen=True, slots=True)
class Sent:
    """One that another process is given."""

    value: int


def test_it_goes_to_another_process_and_back():
    assert pickle.loads(pickle.dumps(Sent(3))) == Sent(3)  # noqa: S301 - made in the line itself


def test_one_that_may_change_is_the_standard_one():
    @values.dataclass(slots=True)
    class Counter:
        count: int = 0

    counter = Counter()
    counter.count += 1

    assert counter == Counter(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)
