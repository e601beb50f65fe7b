"""A question that is asked in a thread while something else is done."""

from __future__ import annotations

import threading

import pytest

from buildorch.meanwhile import Meanwhile


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
