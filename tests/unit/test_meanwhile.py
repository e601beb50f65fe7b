"""A question that is asked in a thread while something else is done, and pieces that are taken in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from buildorch.meanwhile import ROOM, Meanwhile, ahead


def test_it_is_asked_at_once_and_answered_when_wanted():
    begun, go = threading.Event(), threading.Event()

    def ask() -> str:
        begun.set()
        go.wait(5)
        return "answer"

    asking = Meanwhile(ask)

    assert begun.wait(5)
    go.set()
    assert asking.answer() == "answer"
    assert asking.answer() == "answer"


def test_what_it_raised_is_raised_where_the_answer_is_wanted():
    def ask() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Meanwhile(ask).answer()


def test_a_question_that_nobody_wants_answered_holds_up_no_exit():
    never = threading.Event()

    held = not Meanwhile(never.wait)._thread.daemon
    never.set()

    assert not held


# --- ahead


def counted(upto: int, taken: list[int], *, error: Exception | None = None) -> Iterator[int]:
    for number in range(upto):
        taken.append(number)
        yield number
    if error:
        raise error


@pytest.mark.parametrize("upto", [0, 1, 2, 3, 50])
def test_all_pieces_come_in_order(upto: int):
    with ahead(counted(upto, [])) as pieces:
        assert [*pieces] == [*range(upto)]


def test_few_pieces_need_no_thread():
    threads: list[threading.Thread] = []

    def one() -> Iterator[int]:
        yield 1
        threads.append(threading.current_thread())

    with ahead(one()) as pieces:
        assert [*pieces] == [1]

    assert threads == [threading.current_thread()]


def test_only_so_many_pieces_lie_ready():
    taken: list[int] = []
    with ahead(counted(1000, taken)) as pieces:
        next(pieces)
        assert eventually(lambda: len(taken) == 2 + ROOM + 1)
        time.sleep(0.05)

        assert len(taken) == 2 + ROOM + 1  # two at the begin, those that lie ready, and one in the hand


@pytest.mark.parametrize("upto", [0, 1, 5])
def test_what_the_iterator_raises_is_raised_to_whoever_takes(upto: int):
    got: list[int] = []
    with pytest.raises(LookupError, match="gone"), ahead(counted(upto, [], error=LookupError("gone"))) as pieces:
        got.extend(pieces)

    assert got == [*range(upto)] or upto < 2


def test_once_the_block_is_left_nothing_is_taken_any_more():
    taken: list[int] = []

    def slow() -> Iterator[int]:
        for number in counted(1000, taken):
            time.sleep(0.02)
            yield number

    with pytest.raises(LookupError):
        take_one(slow(), then=LookupError())
    left = len(taken)

    assert all(thread.name != "ahead" for thread in threading.enumerate())
    time.sleep(0.05)
    assert len(taken) == left < 20


def test_an_interrupt_does_not_wait_for_the_piece_of_that_moment():
    go_on = threading.Event()

    def hanging() -> Iterator[int]:
        yield from (1, 2)
        go_on.wait(30)
        yield from range(100)

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        take_one(hanging(), then=KeyboardInterrupt())

    assert time.monotonic() - begin < 10
    go_on.set()
    assert eventually(lambda: all(thread.name != "ahead" for thread in threading.enumerate()))


def test_what_is_left_can_be_taken_up_to_its_end():
    with ahead(counted(50, [])) as pieces:
        assert [*islice(pieces, 10)] == [*range(10)]
        assert [*pieces] == [*range(10, 50)]


def test_a_thread_that_finds_no_room_ends_after_an_interrupt_too():
    taken: list[int] = []

    with pytest.raises(KeyboardInterrupt):
        take_one(counted(1000, taken), then=KeyboardInterrupt(), once=lambda: len(taken) > 2 + ROOM)

    assert eventually(lambda: all(thread.name != "ahead" for thread in threading.enumerate()))


def take_one(numbers: Iterator[int], *, then: BaseException, once: Callable[[], bool] = lambda: True) -> None:
    with ahead(numbers) as pieces:
        next(pieces)
        assert eventually(once)
        raise then


def eventually(is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not is_so() and time.monotonic() < end:
        time.sleep(0.005)
    return is_so()
