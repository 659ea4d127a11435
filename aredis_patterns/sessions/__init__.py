"""Sessions on the server: unguessable tokens, two timeouts, a list of devices, and a logout that holds."""

from aredis_patterns.sessions._ends import EndReason, SessionEvent
from aredis_patterns.sessions._rules import SessionOptions
from aredis_patterns.sessions._session import Session, SessionInfo
from aredis_patterns.sessions._statistics import SessionStatistics
from aredis_patterns.sessions._store import SessionStore

__all__ = [
    "EndReason",
    "Session",
    "SessionEvent",
    "SessionInfo",
    "SessionOptions",
    "SessionStatistics",
    "SessionStore",
]
