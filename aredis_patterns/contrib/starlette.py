"""Rate limits and sessions for Starlette and any other ASGI application: pure ASGI middleware, keys from a connection.

    app.add_middleware(RateLimitMiddleware, limiter="100/minute", redis=redis, key=by_ip())
    app.add_middleware(SessionMiddleware, store=sessions)

Only translates: connection to key, result to headers. What is allowed is decided by the limiter.
"""

from __future__ import annotations

from aredis_patterns.contrib._cookies import SessionCookie
from aredis_patterns.contrib._http import HeaderChoice
from aredis_patterns.contrib._limit_keys import (
    CostFunction,
    Costs,
    KeyFunction,
    Keys,
    by_header,
    by_ip,
    by_route,
    by_user,
)
from aredis_patterns.contrib._limits_asgi import RateLimitMiddleware, find_limiter
from aredis_patterns.contrib._monitoring_asgi import health_route, metrics_route
from aredis_patterns.contrib._push_asgi import EventStream, last_event_id, pump_websocket
from aredis_patterns.contrib._sessions import RequestSession
from aredis_patterns.contrib._sessions_asgi import SessionMiddleware, session_of

__all__ = [
    "CostFunction",
    "Costs",
    "EventStream",
    "HeaderChoice",
    "KeyFunction",
    "Keys",
    "RateLimitMiddleware",
    "RequestSession",
    "SessionCookie",
    "SessionMiddleware",
    "by_header",
    "by_ip",
    "by_route",
    "by_user",
    "find_limiter",
    "health_route",
    "last_event_id",
    "metrics_route",
    "pump_websocket",
    "session_of",
]
