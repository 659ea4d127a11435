"""An aiohttp service with the same limits.

    REDIS_URL=redis://localhost python -m examples.aiohttp_app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import web

from aredis_patterns import FixedWindowLimiter, PipelinedRedis, TokenBucketLimiter
