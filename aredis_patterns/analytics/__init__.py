"""Counting people: unique visitors, activity by day, retention and funnels."""

from aredis_patterns.analytics._activity import ActivityTracker, TrackerOptions
from aredis_patterns.analytics._estimate import Estimate
from aredis_patterns.analytics._expression import Expression
from aredis_patterns.analytics._index import IdIndex, IndexOptions
from aredis_patterns.analytics._recorder import Recorder, RecorderStatistics
from aredis_patterns.analytics._records import CohortRow, Funnel, FunnelStep, RetentionTable, Stickiness
from aredis_patterns.analytics._unique_counter import CounterOptions, UniqueCounter

__all__ = [
    "ActivityTracker",
    "CohortRow",
    "CounterOptions",
    "Estimate",
    "Expression",
    "Funnel",
    "FunnelStep",
    "IdIndex",
    "IndexOptions",
    "Recorder",
    "RecorderStatistics",
    "RetentionTable",
    "Stickiness",
    "TrackerOptions",
    "UniqueCounter",
]
