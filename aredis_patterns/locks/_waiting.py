"""Waiting without polling: for locks, permits and whatever else is granted to one token at a time.

    attempt --granted-->  done
       |
     in the queue of the server  --message "free", gap in the messages, timer-->  attempt again, with the old ticket

A failed attempt has put the token into the queue in the same step, so no release can fall in between. The release sends
one message to one waiter. Three things can go wrong, and each has its remedy:

- The holder dies, so nobody sends anything. A timer, one per key and process, looks when the key should have expired.
- The waiter that was woken dies or stands still. The process that woke it looks again shortly after.
- A message is missed. The inbox says so to all its waiters, and each attempts again.

Whoever leaves for any reason, cancellation included, gives up place, reservation and grant in one posted command, which
wakes the next if that frees anything: a wake-up is never lost with its receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from aredis_patterns._core.backoff import exponential
from aredis_patterns.exceptions import OutcomeUnknown, PermissionDenied, ServerUnavailable
from aredis_patterns.locks._answers import RESERVE
from aredis_patterns.locks._room import Grant, Resource, Waiter

if TYPE_CHECKING:
    from aredis_patterns.pipelining import Inbox

__all__ = ["GUARD", "MOST_TRANSFERS", "obtain", "obtain_within"]

GUARD: Final = RESERVE / 1000 + 0.03
"""Seconds after which the process that woke a waiter looks whether it came."""
AGAIN_AFTER_LOSS: Final = 1.0
"""Seconds after which an undo is repeated when its connection broke: the server may still work off the old one."""
MOST_TRANSFERS: Final = 16
"""Times that a lock may stay in one process before others get their turn."""


async def obtain(resource: Resource, waiter: Waiter, *, wait: bool) -> Grant | None:
    """A grant; None without one if it may not wait. Ends otherwise only by being cancelled, or with an error of the
    server; then nothing stays behind."""
    room, inbox = resource.room, resource.inbox
    room.join(waiter, line_up=resource.lines_up)
    pauses: Iterator[float] | None = None
    try:
        while waiter.grant is None:
            pause = None
            if room.may_ask(waiter):
                # The first attempt spares opening the inbox: most locks are free.
                listening = wait and (await _listen(resource, waiter) if waiter.asked else _overhear(inbox, waiter))
                waiter.woken, first, waiter.asked = False, not waiter.asked, True
                start = room.loop.time()
                answer = await resource.attempt(waiter, enqueue=listening)
                if answer.granted:
                    return Grant(answer.fence, start)
                waiter.ticket = answer.ticket
                if wait or answer.again == 0:
                    room.look_after(answer.again, resource, guard=answer.again == 0)
                if wait and first and not listening:
                    continue
                if not listening:
                    pauses = pauses or exponential(first=0.005, longest=0.1)
                    pause = next(pauses)
            if not wait:
                return None
            await waiter.rest(pause)
        return waiter.grant
    except BaseException as error:
        if waiter.asked:
            _undo(resource, waiter, error)
        raise
    finally:
        if waiter.listening:
            inbox.forget(waiter.token)
        room.part(waiter)


async def obtain_within(resource: Resource, waiter: Waiter, timeout: float | None) -> Grant | None:
    """`obtain`, for so many seconds at most."""
    if not timeout:
        return await obtain(resource, waiter, wait=timeout is None)
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await obtain(resource, waiter, wait=True)
    except TimeoutError:
        if not limit.expired():
            raise
    return None


def _overhear(inbox: Inbox, waiter: Waiter) -> bool:
    """Be ready to be woken, if that costs nothing."""
    if inbox.live:
        inbox.expect(waiter.token, waiter.wake)
        waiter.listening = True
    return waiter.listening


async def _listen(resource: Resource, waiter: Waiter) -> bool:
    """Be ready to be woken. False: this user may not subscribe, or nobody answers; then it takes polling."""
    try:
        await resource.inbox.open()
    except (PermissionDenied, ServerUnavailable) as error:
        resource.runtime.cannot_listen(error)
        return False
    resource.inbox.expect(waiter.token, waiter.wake)
    waiter.listening = True
    return True


def _undo(resource: Resource, waiter: Waiter, error: BaseException) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closing: the ttl will do it
        resource.leave(waiter)
        if waiter.ticket:
            resource.room.look_after(int(GUARD * 1000), resource, guard=True)
        if isinstance(error, OutcomeUnknown):
            resource.runtime.loop.call_later(AGAIN_AFTER_LOSS, _leave_again, resource, waiter)


def _leave_again(resource: Resource, waiter: Waiter) -> None:
    if resource.runtime.connected:
        resource.leave(waiter)
