"""An inbox: one channel per process on which scripts wake those who wait, so that nobody polls.

    await inbox.open()                        # confirmed: from here on nothing is missed unnoticed
    inbox.expect(waiter, callback)            # registered before the script is told the name
    SCRIPT(..., args=[inbox.channel, waiter]) # tries, and leaves the name when it must wait
    ...                                       # another script: PUBLISH channel "<waiter>\\n<payload>"

Pub/sub is at most once. So whenever messages may have been missed every callback is called with None, which means: look
again. A waiter should have a timer as well, for a holder that died without publishing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from aredis_patterns.pipelining._channel import ListenerSubscription
from aredis_patterns.pipelining._listener import Listener

__all__ = ["Inbox", "OnWake"]

OnWake = Callable[[bytes | None], None]
"""`callback(payload)`; None: messages may have been missed."""

IDLE: Final = 30.0
"""Seconds without anybody waiting, after which the channel is given up."""


class Inbox:
    """The channel of this process in one namespace. Found by `inbox_of(client, namespace)`."""

    def __init__(self, listener: Listener, namespace: str) -> None:
        self.channel: Final = f"{namespace}:inbox:{secrets.token_hex(12)}"
        self._listener: Final = listener
        self._waiters: dict[bytes, OnWake] = {}
        self._subscription: ListenerSubscription | None = None
        self._last_use = 0.0
        self.stray = 0
        """Messages to waiters that had gone."""

    def __repr__(self) -> str:
        return f"<Inbox {self.channel} {'live' if self.live else 'closed'}, {len(self._waiters)} waiting>"

    @property
    def live(self) -> bool:
        """Whether messages are heard now."""
        return self._subscription is not None and self._subscription.live

    @property
    def closed(self) -> bool:
        """Whether its client was closed: `inbox_of` gives another one."""
        return self._listener.closed

    @property
    def waiting(self) -> int:
        """How many are expected to be woken."""
        return len(self._waiters)

    async def open(self) -> None:
        """Return when messages are heard: at once when they are, else after one round trip and perhaps a connection.

        Raises ServerUnavailable, or PermissionDenied when the ACL refuses the channel: poll then.
        """
        loop = self._listener.loop
        self._last_use = loop.time()
        while not self.live:
            if self._subscription is None:
                ear = await self._listener.ear_for("channel", self.channel.encode())
                if self._subscription is None:  # nobody was quicker
                    self._subscription = ear.add(
                        "channel", self.channel.encode(), self._on_message, self._on_lost, self._wake_all
                    )
                    loop.call_later(IDLE, self._close_when_idle)
            subscription = self._subscription
            try:
                await subscription.confirmed()
            except Exception:
                if self._subscription is subscription:
                    self._close()
                    self._wake_all()  # those who wait find out for themselves that they have to poll
                raise

    def expect(self, waiter: str, callback: OnWake) -> None:
        """Call `callback` for each message to `waiter`, from the reader, until `forget`. It must be quick."""
        self._waiters[waiter.encode()] = callback

    def forget(self, waiter: str) -> None:
        """Expect no more messages to `waiter`."""
        self._waiters.pop(waiter.encode(), None)
        self._last_use = self._listener.loop.time()

    def _on_message(self, data: bytes, channel: bytes, pattern: bytes | None) -> None:
        waiter, _, payload = data.partition(b"\n")
        callback = self._waiters.get(waiter)
        if callback is None:
            self.stray += 1
        else:
            callback(payload)

    def _on_lost(self, error: Exception) -> None:
        if not self._waiters:
            self._close()  # nobody to come back for
        self._wake_all()

    def _wake_all(self) -> None:
        for callback in tuple(self._waiters.values()):
            callback(None)

    def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()

    def _close_when_idle(self) -> None:
        subscription = self._subscription
        if subscription is None:
            return
        loop = self._listener.loop
        if not self._waiters and loop.time() - self._last_use >= IDLE:
            self._close()
        else:
            loop.call_later(IDLE, self._close_when_idle)
