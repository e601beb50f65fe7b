"""A question that is asked while something else is done: `Meanwhile(ask)`, and later its `answer()`.

In: a function. Out: what it returns, or what it raises. Touches: one thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


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

    def answer(self) -> T:
        """What the function returned, once it has; what it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer

    def _work(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever wants the answer
            self._error = error
