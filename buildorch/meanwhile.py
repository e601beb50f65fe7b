"""What is done while something else is: a question (`Meanwhile`), and the taking of what is wanted next (`ahead`).

In: a function, or an iterator. Out: what it returns or gives, or what it raises. Touches: one thread.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from queue import Queue

T = TypeVar("T")
ROOM = 4
"""How many pieces lie ready: of a layer 1 MB each."""


class Meanwhile(Generic[T]):
    """Asks in a thread of its own, at once; one whose answer nobody wants any more holds up no exit.

    An executor's thread would: Python waits for those at its end.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        """Begin to ask."""
        self._ask = ask
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="meanwhile", daemon=True)
        self._thread.start()

    def answer(self, *, within_s: float | None = None) -> T:
        """What the function returned, once it has; what it raised is raised here.

        Raises:
            TimeoutError: it has not within so many seconds from now.
        """
        self._thread.join(within_s)
        if self._thread.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._answer

    def _work(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever wants the answer
            self._error = error


@contextmanager
def ahead(pieces: Iterator[T]) -> Iterator[Iterator[T]]:
    """Take from an iterator in a thread, at most `ROOM` pieces before they are asked for.

    What it raises is raised to whoever takes, and again to whoever takes after that. The first two are taken here:
    few pieces need no thread, and what an iterator imports at its begin is not imported in a thread that an exit
    may meet. Once the block is left nothing is taken any more. Only an interrupt does not wait for the piece of
    that moment.
    """
    begin = [*islice(pieces, 2)]
    if len(begin) < 2:
        yield iter(begin)
        return
    taking = _Taking(pieces)
    try:
        yield chain(begin, taking)
    except Exception:
        taking.end()
        raise
    else:
        taking.end()
    finally:
        taking.leave()


class _Taking(Generic[T]):
    """An iterator that a thread takes from."""

    def __init__(self, pieces: Iterator[T]) -> None:
        from queue import Queue  # noqa: PLC0415 - only where there is much to take

        self._pieces = pieces
        self._ready: Queue[T | _End] = Queue(ROOM)
        self._end: _End | None = None
        self._is_left = False
        self._thread = threading.Thread(target=self._take, name="ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._end is None:
            piece = self._ready.get()
            if not isinstance(piece, _End):
                return piece
            self._end = piece
        raise self._end.error or StopIteration

    def leave(self) -> None:
        """Take nothing after the piece of this moment."""
        self._is_left = True
        while not self._ready.empty():  # where there is no room, the thread waits for some
            self._ready.get()

    def end(self) -> None:
        """Stop taking, and wait until that is so."""
        while self._thread.is_alive():
            self.leave()
            self._thread.join(0.01)

    def _take(self) -> None:
        error = None
        try:
            for piece in self._pieces:
                self._ready.put(piece)
                if self._is_left:
                    break
        except BaseException as raised:  # noqa: BLE001 - it belongs to whoever takes
            error = raised
        self._ready.put(_End(error))


class _End:
    """Behind the last piece."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
