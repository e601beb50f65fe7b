"""A stream of what a task tells, for as long as somebody reads it.

In: an async function that sends. Out: the stream's reading end. Touches nothing. Runs on asyncio and on trio.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from buildorch.errors import first_own

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from anyio.abc import ObjectReceiveStream, ObjectSendStream

T = TypeVar("T")


@asynccontextmanager
async def streamed(
    drive: Callable[[ObjectSendStream[T]], Coroutine[Any, Any, None]],
) -> AsyncIterator[ObjectReceiveStream[T]]:
    """Run `drive`, which closes its end; leaving the block early cancels it.

    An error comes out by itself, and not in a group: `first_own` says which one of several.
    """
    send, receive = anyio.create_memory_object_stream[T](0)
    try:
        async with receive, anyio.create_task_group() as group:
            group.start_soon(drive, send)
            yield receive
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise first_own(errors) from None
