"""What people do with a queue: look at it, pause it, take messages back. `ReliableQueue` inherits these verbs."""

from __future__ import annotations

from typing import Any, Final

from aredis_patterns._core.codecs import Codec
from aredis_patterns.pipelining import lane_of
from aredis_patterns.queues import _scripts
from aredis_patterns.queues._dead_letters import MOST_LISTED, DeadLetters, StoredMessage, check_id, stored_messages
from aredis_patterns.queues._keys import QueueKeys, queue_keys
from aredis_patterns.queues._statistics import QueueStats, stats_of
from aredis_patterns.types import RedisClient

__all__ = ["Administration"]


class Administration:
    """The queue as a whole, on the server. Each verb is one round trip, and raises what the server says."""

    def __init__(self, client: RedisClient, name: str, *, namespace: str, codec: Codec[Any], deadline: float) -> None:
        self.name: Final = name
        self.namespace: Final = namespace
        self._client: Final = client
        self._commands: Final = lane_of(client)
        self._codec: Final[Codec[Any]] = codec
        self._keys: Final[QueueKeys] = queue_keys(namespace, name)
        self._deadline: Final = deadline
        self.dead_letters: Final = DeadLetters(self._commands, self._keys, codec, deadline)

    async def stats(self) -> QueueStats:
        """What the server has. One round trip, O(priorities in use + 1000)."""
        keys = self._keys
        found = await _scripts.survey(
            self._commands,
            messages=keys.messages,
            ready=keys.ready,
            leases=keys.leases,
            delayed=keys.delayed,
            dead=keys.dead,
            counters=keys.counters,
            paused=keys.paused,
            deadline=self._deadline,
        )
        return stats_of(found)

    async def peek(self, count: int = 10) -> list[StoredMessage]:
        """The next `count` messages (500 at most) in their order, untouched. One round trip."""
        keys = self._keys
        found = await _scripts.peek(
            self._commands,
            messages=keys.messages,
            failures=keys.failures,
            place=keys.ready,
            start=0,
            count=max(0, min(count, MOST_LISTED)),
            deadline=self._deadline,
        )
        return stored_messages(found, self._codec)

    async def cancel(self, message_id: str) -> bool:
        """Take back a message that nobody has begun; False when it is under way, done, dead or unknown. One round trip.

        Not repeated when its reply is lost: OutcomeUnknown.
        """
        check_id(message_id)
        return await _scripts.cancel(self._commands, keys=self._keys, id=str(message_id), deadline=self._deadline)

    async def pause(self) -> None:
        """Deliver nothing any more, anywhere, until `resume`. What is under way is finished. One round trip.

        Survives restarts and has no TTL. Other processes hear of it with their next turn: what they have taken ahead is
        given back then.
        """
        key, deadline = self._keys.paused, self._deadline
        await self._commands.call("SET", key, 1, key=key, deadline=deadline, replay_safe=True)

    async def resume(self) -> bool:
        """End a pause, and wake everybody who waits; False when there was none. One round trip."""
        return await _scripts.resume(self._commands, keys=self._keys, deadline=self._deadline)

    async def clear(self) -> None:
        """Forget everything but a pause: messages, dead letters, counters. Who holds a message has lost it."""
        keys = [key for name, key in self._keys._asdict().items() if name not in ("paused", "answer", "consumers")]
        await self._commands.call("UNLINK", *keys, key=keys[0], deadline=self._deadline, replay_safe=True)
