"""`SessionStore`: server-side sessions that can be listed, rotated and ended, and that stay ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, overload

from aredis_patterns._core.codecs import JSONCodec
from aredis_patterns._core.durations import timeout_seconds, to_milliseconds, to_seconds
from aredis_patterns._core.instrumentation import hook_of
from aredis_patterns.exceptions import (
    EncodeError,
    OutcomeUnknown,
    ReplyTimeout,
    SessionConflict,
    SessionGone,
    SessionTooLarge,
)
from aredis_patterns.pipelining import lane_of
from aredis_patterns.sessions._data import Layout, MappingLayout, ModelLayout, SessionData, size_of
from aredis_patterns.sessions._index import UserIndex
from aredis_patterns.sessions._keys import SessionKeys
from aredis_patterns.sessions._server import Rules, SessionServer
from aredis_patterns.sessions._session import Record, Session, SessionInfo, info_of
from aredis_patterns.sessions._tokens import handle_of, is_handle, new_token
from aredis_patterns.types import RedisClient, Seconds
