"""Monitoring: what the server does, what the patterns do, and what is wrong, as records, metrics and a live view.

The records of an `Inspector` are in `aredis_patterns.monitoring.records`.
"""

from aredis_patterns.monitoring._doctor import Diagnosis, doctor
from aredis_patterns.monitoring._groups import BigKey, KeyGroup
from aredis_patterns.monitoring._health import Health, health
from aredis_patterns.monitoring._hot_keys import HotKey, HotKeys, hot_keys
from aredis_patterns.monitoring._inspector import Inspector
from aredis_patterns.monitoring._keyscan import KeyReport, KeyScan, ScanProgress
from aredis_patterns.monitoring._monitor_line import MonitoredCommand
from aredis_patterns.monitoring._pattern_view import PatternView, pattern_view
from aredis_patterns.monitoring._rules import Finding
from aredis_patterns.monitoring._tap import CommandTap
from aredis_patterns.monitoring.records import NodeReport, SlowCommand, Unavailable

__all__ = [
    "BigKey",
    "CommandTap",
    "Diagnosis",
    "Finding",
    "Health",
    "HotKey",
    "HotKeys",
    "Inspector",
    "KeyGroup",
    "KeyReport",
    "KeyScan",
    "MonitoredCommand",
    "NodeReport",
    "PatternView",
    "ScanProgress",
    "SlowCommand",
    "Unavailable",
    "doctor",
    "health",
    "hot_keys",
    "pattern_view",
]
