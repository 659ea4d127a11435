"""Where one message ends and the next begins, in RESP2 and RESP3, for bytes that arrive in pieces.

Values are not decoded: a proxy passes on exactly what it was given.
"""

from __future__ import annotations

from typing import Final

BULKS: Final = b"$!="
"""A length, and so many bytes follow."""
AGGREGATES: Final = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
"""A number of entries, and so many elements each follow."""

SUBSCRIPTIONS: Final = frozenset(
    (b"SUBSCRIBE", b"PSUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE")
)
"""Commands that are answered with pushes, one per channel."""
MESSAGES: Final = SUBSCRIPTIONS | {b"MESSAGE", b"PMESSAGE", b"SMESSAGE"}


class FrameSplitter:
    """Cuts a stream of RESP into whole messages. Linear in the number of bytes, however they are cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        self._missing = 1

    @property
    def empty(self) -> bool:
        """Whether no part of a message is kept."""
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the messages that are complete now. The rest is kept."""
        self._buffer += data
        messages: list[bytes] = []
        start = 0
        while self._element():
            if self._missing == 0:
                messages.append(bytes(self._buffer[start : self._seen]))
                start, self._missing = self._seen, 1
        if start:
            del self._buffer[:start]
            self._seen -= start
        return messages

    def _element(self) -> bool:
        """Step over one element, or the head of an aggregate; False when it has not arrived in full."""
        end = self._buffer.find(b"\r\n", self._seen)
        if end < 0:
            return False
        kind = bytes(self._buffer[self._seen : self._seen + 1])
        after, more = end + 2, 0
        if kind in AGGREGATES:
            more = max(0, int(self._buffer[self._seen + 1 : end])) * AGGREGATES[kind]
        elif kind and kind in BULKS:
            length = int(self._buffer[self._seen + 1 : end])
            after += length + 2 if length >= 0 else 0
        if after > len(self._buffer):
            return False
        self._seen = after
        # Attributes come before the element that they belong to, and do not count as one.
        self._missing += more - (kind != b"|")
        return True


def words_of(command: bytes) -> tuple[bytes, ...]:
    """The name, in capitals, and the arguments of a command as clients send it."""
    if not command.startswith(b"*"):
        words = command.split()
    else:
        words, at = [], command.index(b"\r\n") + 2
        while at < len(command):
            end = command.index(b"\r\n", at)
            length = int(command[at + 1 : end])
            words.append(command[end + 2 : end + 2 + length])
            at = end + 2 + length + 2
    return (words[0].upper(), *words[1:]) if words else (b"",)


def is_push(message: bytes) -> bool:
    """Whether nobody asked for this message, or it confirms a subscription (RESP3)."""
    return message.startswith(b">")


def is_subscription_message(message: bytes) -> bool:
    """The same for RESP2, where such messages look like replies: ask only on connections that have subscribed."""
    if not message.startswith((b"*", b">")):
        return False
    _, _, name, _ = message.split(b"\r\n", 3) if message.count(b"\r\n") > 2 else (b"", b"", b"", b"")
    return name.upper() in MESSAGES
