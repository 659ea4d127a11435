"""The buffer against a plain statement of what it must do: nothing is lost without being counted, in its place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aredis_patterns.pubsub import Event, Gap, Overflow
from aredis_patterns.pubsub._buffer import LatestBuffer, RingBuffer, make_buffer, merged


def event(number: int, channel: str = "x") -> Event[int]:
    return Event(channel, number, b"", None, None, 0.0)


def drain(buffer: RingBuffer[int] | LatestBuffer[int], most: int = 1_000_000) -> list[Any]:
    items: Any = buffer.items if isinstance(buffer, RingBuffer) else buffer
    taken: list[Any] = []
    while items and len(taken) < most:
        item = items.popleft()
        if isinstance(item, Gap):
            buffer.took_gap()
        taken.append(item)
    return taken


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), st.integers(0, 7)),
        st.tuples(st.just("take"), st.integers(0, 7)),
        st.tuples(st.just("gap"), st.sampled_from([None, 1, 5])),
    ),
    max_size=60,
)


@given(limit=st.integers(1, 5), overflow=st.sampled_from(["drop_oldest", "drop_newest"]), steps=STEPS)
def test_every_event_is_taken_once_or_counted_in_its_place(limit: int, overflow: Overflow, steps: Any) -> None:
    """Events are numbered without a hole. So whatever is taken, each gap must stand exactly where numbers are missing."""
    buffer: Any = make_buffer(limit, overflow)
    filled = 0
    outside = 0
    taken: list[Any] = []
    for step, amount in steps:
        if step == "fill":
            buffer.fill([event(filled + number) for number in range(amount)])
            filled += amount
        elif step == "take":
            taken += drain(buffer, amount)
        else:
            buffer.note(Gap("reconnect", amount))
            outside += 1
        assert len(buffer) <= limit
    taken += drain(buffer)
    assert not buffer
    expected: int | None = 0
    missed_by_slowness = 0
    for item in taken:
        if isinstance(item, Gap):
            if item.reason == "slow":
                assert item.missed is not None
                expected = None if expected is None else expected + item.missed
                missed_by_slowness += item.missed
            else:
                expected = (
                    None  # perhaps merged with a slow one: how many are missing is not known until the next event
                )
        else:
            assert expected in (None, item.data)
            expected = item.data + 1
    numbers = [item.data for item in taken if isinstance(item, Event)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + buffer.missed == filled
    if not outside:
        assert missed_by_slowness == buffer.missed
        assert expected == filled


def test_a_gap_from_outside_is_never_lost() -> None:
    ring: RingBuffer[int] = RingBuffer(2, "drop_oldest")
    ring.fill([event(0)])
    ring.note(Gap("reconnect", None))
    ring.fill([event(1), event(2), event(3)])
    assert drain(ring) == [Gap("reconnect", None), event(2), event(3)]
    assert ring.missed == 2


def test_drop_newest_says_so_behind_what_was_kept() -> None:
    ring: RingBuffer[int] = RingBuffer(2, "drop_newest")
    ring.fill([event(number) for number in range(5)])
    assert drain(ring, 1) == [event(0)]
    ring.fill([event(5)])
    assert drain(ring) == [event(1), Gap("slow", 3, "x"), event(5)]


def test_gaps_between_the_same_events_are_one() -> None:
    assert merged(Gap("slow", 2, "x"), Gap("slow", 3, "x")) == Gap("slow", 5, "x")
    assert merged(Gap("slow", 2, "x"), Gap("reconnect", None, "y")) == Gap("reconnect", None, None)
    assert merged(Gap("reset", None, "x"), Gap("slow", 3, "x")) == Gap("reset", None, "x")


def test_latest_is_bounded_when_a_pattern_has_more_channels_than_room() -> None:
    latest: LatestBuffer[int] = LatestBuffer(2)
    latest.fill([event(1, "a"), event(2, "b"), event(3, "a"), event(4, "c")])
    assert len(latest) == 2
    assert drain(latest) == [Gap("slow", 1, "a"), event(2, "b"), event(4, "c")]
    assert (latest.conflated, latest.missed) == (1, 1)
    latest.fill([event(1)])
    latest.note(Gap("reconnect", None))
    latest.clear()
    assert not latest


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "raise"])
def test_memory_is_bounded_however_long_nobody_reads(overflow: Overflow) -> None:
    ring: RingBuffer[int] = RingBuffer(10, overflow)
    for number in range(1000):
        ring.fill([event(number)])
        ring.note(Gap("reconnect", 1))
    assert len(ring) == 10
    assert len(ring.items) <= 21
