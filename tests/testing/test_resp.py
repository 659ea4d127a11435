"""`FrameSplitter` finds the messages in a stream, wherever the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aredis_patterns.testing._resp import FrameSplitter, is_push, is_subscription_message, words_of

MESSAGES = [
    b"+OK\r\n",
    b"-ERR no \n newline here\r\n",
    b":-12\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$12\r\nbinary\r\n$3\r\n\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n*1\r\n$-1\r\n+b\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b"(12345678901234567890\r\n",
    b"=7\r\ntxt:a\r\n\r\n",
    b"!5\r\nERR a\r\n",
    b"%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n%0\r\n",
    b"~2\r\n:1\r\n:2\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n",
    b"|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n:2\r\n",
    b"*2\r\n|1\r\n+a\r\n%1\r\n+b\r\n:1\r\n:1\r\n:2\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"PING inline\r\n",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_complete_at_its_last_byte_and_not_before(message: bytes) -> None:
    splitter = FrameSplitter()
    for byte in message[:-1]:
        assert splitter.feed(bytes([byte])) == []
    assert splitter.feed(message[-1:]) == [message]


@given(st.lists(st.sampled_from(MESSAGES), max_size=30), st.randoms(use_true_random=False))
def test_any_stream_cut_anywhere_gives_the_same_messages(messages: list[bytes], random: object) -> None:
    stream = b"".join(messages)
    splitter, found, at = FrameSplitter(), list[bytes](), 0
    while at < len(stream):
        size = random.randint(1, 40)  # type: ignore[attr-defined]
        found += splitter.feed(stream[at : at + size])
        at += size
    assert found == messages


def test_words_of_a_command() -> None:
    assert words_of(b"*3\r\n$3\r\nset\r\n$2\r\n\r\n\r\n$0\r\n\r\n") == (b"SET", b"\r\n", b"")
    assert words_of(b"ping hello\r\n") == (b"PING", b"hello")


def test_what_is_a_push() -> None:
    assert is_push(b">1\r\n+x\r\n")
    assert is_subscription_message(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n")
    assert not is_subscription_message(b"*1\r\n$3\r\nabc\r\n")
    assert not is_subscription_message(b"$7\r\nmessage\r\n")
    assert not is_subscription_message(b"*0\r\n")
