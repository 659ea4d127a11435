"""Monitoring: what the server does, what the patterns do, and what is wrong, as records, metrics and a live view."""

from aredis_patterns.monitoring._doctor import Diagnosis, doctor
from aredis_patterns.monitoring._groups import BigKey, KeyGroup, shape_of
from aredis_patterns.monitoring._health import Check, Health, NodeHealth, health
from aredis_patterns.monitoring._hot_keys import HotKey, HotKeys, hot_keys
from aredis_patterns.monitoring._inspector import Inspector
from aredis_patterns.monitoring._keyscan import KeyReport, KeyScan, ScanProgress
from aredis_patterns.monitoring._monitor_line import MonitoredCommand
from aredis_patterns.monitoring._records import (
    ClientConnection,
    Clients,
    CommandStatistics,
    Database,
    LatencyEvent,
    LatencyHistogram,
    Memory,
    NodeReport,
    Persistence,
    Replica,
    Replication,
    ServerInfo,
    SlowCommand,
    Stats,
    Unavailable,
)
from aredis_patterns.monitoring._redaction import Redaction, keys_of, redact
from aredis_patterns.monitoring._rules import Finding
from aredis_patterns.monitoring._tap import CommandTap, TapStatistics

__all__ = [
    "BigKey",
    "Check",
    "ClientConnection",
    "Clients",
    "CommandStatistics",
    "CommandTap",
    "Database",
    "Diagnosis",
    "Finding",
    "Health",
    "HotKey",
    "HotKeys",
    "Inspector",
    "KeyGroup",
    "KeyReport",
    "KeyScan",
    "LatencyEvent",
    "LatencyHistogram",
    "Memory",
    "MonitoredCommand",
    "NodeHealth",
    "NodeReport",
    "Persistence",
    "Redaction",
    "Replica",
    "Replication",
    "ScanProgress",
    "ServerInfo",
    "SlowCommand",
    "Stats",
    "TapStatistics",
    "Unavailable",
    "doctor",
    "health",
    "hot_keys",
    "keys_of",
    "redact",
    "shape_of",
]
