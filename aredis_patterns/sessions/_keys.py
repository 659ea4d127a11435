"""The keys of this family, and the channel on which ends are told."""

from __future__ import annotations

from typing import Final

from aredis_patterns._core.keys import Keyspace
from aredis_patterns.sessions._tokens import TAGS

__all__ = ["SessionKeys"]


class SessionKeys:
    """All keys of one store.

    A handle is one letter of the token and the hash of it. The letter is the hash tag: it survives a rotation, so the
    old and the new session share a slot and one script can move the one to the other. A store uses 64 slots of a
    Cluster. What belongs to a user lives in the slot of the user.
    """

    __slots__ = ("_prefix", "_users", "channel")

    def __init__(self, namespace: str, name: str) -> None:
        space = Keyspace(namespace, "sess", name)
        self._prefix: Final = space.prefix
        self._users: Final = Keyspace(namespace, "sess", name, "user")
        self.channel: Final = f"{self._prefix}:ended"

    def session(self, handle: str) -> str:
        """`<ns>:sess:<name>:{<tag>}:<hash>`. A handle is letters, digits, - and _ only: nothing to escape."""
        return f"{self._prefix}:{{{handle[0]}}}:{handle[1:]}"

    def ends(self, tag: str) -> str:
        """`<ns>:sess:<name>:{<tag>}:ends`: when the sessions of this tag end, and the ends that nobody has read yet."""
        return f"{self._prefix}:{{{tag}}}:ends"

    def all_ends(self) -> list[str]:
        """`ends` of every tag."""
        return [self.ends(tag) for tag in TAGS]

    def index(self, user_id: str) -> str:
        """`<ns>:sess:<name>:user:{<user>}`: the handles of a user."""
        return self._users.key(user_id)

    def revoked(self, user_id: str) -> str:
        """`<ns>:sess:<name>:user:{<user>}:revoked`: when all sessions of a user were ended last."""
        return self._users.key(user_id, "revoked")

    def __repr__(self) -> str:
        return f"SessionKeys({self._prefix!r})"
