"""The scripts in plain Python: what they must answer, and a way to test sessions without a server or a clock.

Time is an argument, in ms (for the index in us), and everything is an integer, so a model and its script agree to the
last digit; property tests compare them step by step.

    model = SessionsModel(idle=60_000, absolute=600_000)
    model.create("handle", now=0)
    assert model.extend("handle", now=59_999)[0] == 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["IndexModel", "SessionState", "SessionsModel"]


@dataclass(slots=True)
class SessionState:
    """One session."""

    created: int
    seen: int
    user: str
    meta: str
    size: int
    version: int = 1
    attributes: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Note:
    """Where a session went."""

    moved: str
    before: str
    until: int


class SessionsModel:
    """All sessions of one tag, and when they end."""

    def __init__(self, *, idle: int, absolute: int, keep: int = 0, most: int = 2**53) -> None:
        self.idle, self.absolute, self.keep, self.most = idle, absolute, keep, most
        self.sessions: dict[str, SessionState] = {}
        self.notes: dict[str, Note] = {}
        self.ends: dict[str, int] = {}
        """Member and score, as in the sorted set."""

    def create(
        self, handle: str, *, now: int, user: str = "", meta: str = "", attributes: Mapping[str, bytes] | None = None
    ) -> int:
        """lua/session_create.lua: when it was created."""
        if handle in self.sessions:
            return self.sessions[handle].created
        values = dict(attributes or {})
        size = sum(len(name) + len(value) for name, value in values.items())
        self.sessions[handle] = SessionState(now, now, user, meta, size, attributes=values)
        self._drop_old(now)
        self._expect(handle, user, now + self.idle)
        return now

    def save(
        self, handle: str, *, now: int, expected: int, removed: Sequence[str], written: Mapping[str, bytes]
    ) -> tuple[int, int, int, str]:
        """lua/session_save.lua: status, version, size, successor."""
        note = self.notes.get(handle)
        if note is not None and now < note.until:
            return 4, 0, 0, note.moved
        state = self.alive(handle, now)
        if state is None:
            return 0, 0, 0, ""
        if expected and expected != state.version:
            return 2, state.version, state.size, ""
        if not removed and not written:
            return 1, state.version, state.size, ""
        after = {name: value for name, value in state.attributes.items() if name not in removed} | dict(written)
        size = sum(len(name) + len(value) for name, value in after.items())
        if size > self.most and size > state.size:
            return 3, state.version, size, ""
        state.attributes, state.size, state.version = after, size, state.version + 1
        return 1, state.version, size, ""

    def extend(self, handle: str, *, now: int, threshold: int = 0) -> tuple[int, int, int, int, str]:
        """lua/session_extend.lua: status, life that is left, created, seen, user or successor."""
        note = self.notes.get(handle)
        if note is not None and now < note.until:
            return 2, 0, 0, 0, note.moved
        state = self.alive(handle, now)
        if state is None:
            return 0, 0, 0, 0, ""
        if min(now + self.idle, state.created + self.absolute) - self.expires(state) >= threshold:
            state.seen = max(now, state.seen)
            self._expect(handle, state.user, self.expires(state))
        return 1, self.expires(state) - now, state.created, state.seen, state.user

    def rotate(self, handle: str, moved: str, *, now: int, user: str | None = None, grace: int = 0) -> str | None:
        """lua/session_rotate.lua: the user until now; None when it is gone."""
        note = self.notes.get(handle)
        if note is not None and note.moved == moved and moved in self.sessions:
            return note.before
        state = self.alive(handle, now)
        if state is None:
            return None
        before = state.user
        self.ends.pop(f"live:{handle}:{before}", None)
        self.sessions[moved] = self.sessions.pop(handle)
        if user is not None:
            state.created, state.user = now, user
        state.seen, state.version = now, state.version + 1
        self.notes[handle] = Note(moved, before, now + grace)
        self._expect(moved, state.user, self.expires(state))
        return before

    def destroy(
        self, handle: str, *, now: int, reason: str = "revoked", owner: str = "", follow: bool = False
    ) -> tuple[int, str, str]:
        """lua/session_destroy.lua: status, user, the handle of the successor."""
        note = self.notes.get(handle)
        if note is not None:
            return 0, "", note.moved if follow or now < note.until else ""
        state = self.alive(handle, now)
        if state is None or (owner and owner != state.user):
            return 0, "", ""
        del self.sessions[handle]
        self._drop_old(now)
        self.ends.pop(f"live:{handle}:{state.user}", None)
        if self.keep and reason:
            self.ends[f"{reason}:{handle}:{state.user}"] = now
        return 1, state.user, ""

    def claim(self, *, now: int, lease: int, most: int = 100) -> list[str]:
        """lua/ends_claim.lua: the ends taken."""
        if not any(score <= now for score in self.ends.values()):
            return []
        self._drop_old(now)
        due = sorted((score, member) for member, score in self.ends.items() if score <= now)
        taken: list[str] = []
        for _, member in due[:most]:
            del self.ends[member]
            name = "expired:" + member[5:] if member.startswith("live:") else member
            self.ends[name] = now + lease
            taken.append(name)
        return taken

    def alive(self, handle: str, now: int) -> SessionState | None:
        """The session, if its time is not over."""
        state = self.sessions.get(handle)
        return state if state is not None and now < self.expires(state) else None

    def expires(self, state: SessionState) -> int:
        """When its time is over."""
        return min(state.seen + self.idle, state.created + self.absolute)

    def _expect(self, handle: str, user: str, expires: int) -> None:
        if self.keep:
            self.ends[f"live:{handle}:{user}"] = expires

    def _drop_old(self, now: int) -> None:
        if self.keep:
            self.ends = {member: score for member, score in self.ends.items() if score > now - self.keep}


class IndexModel:
    """The index of one user. Times in us, but for `created` and `revoked`, which are in ms as in the sessions."""

    def __init__(self) -> None:
        self.scores: dict[str, int] = {}
        self.revoked = 0

    def add(
        self, handle: str, *, now: int, left: int, created: int = 0, most: int = 0, replaces: str = ""
    ) -> tuple[int, list[str], list[str]]:
        """lua/index_add.lua: status, due handles, surplus handles."""
        known = handle in self.scores or replaces in self.scores
        if 0 < created < self.revoked and not known:
            return 0, [], []
        self.scores.pop(replaces, None)
        self.scores[handle] = now + left * 1000
        ranked = sorted((score, name) for name, score in self.scores.items())
        due = [name for score, name in ranked if score <= now][:100]
        live = [name for score, name in ranked if score > now]
        surplus = [name for name in live if name != handle][: max(0, len(live) - most)] if most else []
        return 1, due, surplus

    def revoke(self, *, now: int) -> list[str]:
        """lua/index_revoke.lua: every handle."""
        self.revoked = now // 1000
        return [name for _, name in sorted((score, name) for name, score in self.scores.items())]
