"""The hook: a record without keys, and a default that does nothing."""

from __future__ import annotations

import dataclasses

import pytest

from aredis_patterns._core.instrumentation import SILENT, Event, Instrumentation


def test_an_event_has_no_place_for_a_key() -> None:
    assert [field.name for field in dataclasses.fields(Event)] == ["family", "operation", "outcome", "duration"]
    event = Event("ratelimit", "hit", "allowed", 0.001)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.outcome = "refused"  # type: ignore[misc]


def test_any_object_with_on_event_will_do() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.events: list[Event] = []

        def on_event(self, event: Event, /) -> None:
            self.events.append(event)

    recorder = Recorder()
    for listener in (recorder, SILENT):
        hook: Instrumentation = listener
        hook.on_event(Event("locks", "acquire", "timeout", 0.5))
    assert [event.outcome for event in recorder.events] == ["timeout"]
