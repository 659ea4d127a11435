"""`doctor`: what is wrong with the servers of a client, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from redis.exceptions import RedisError

from aredis_patterns.exceptions import PatternError
from aredis_patterns.monitoring._inspector import Inspector
from aredis_patterns.monitoring._keyscan import KeyReport, KeyScan
from aredis_patterns.monitoring._rules import RULES, Finding
from aredis_patterns.monitoring.records import NodeReport
from aredis_patterns.types import RedisClient

__all__ = ["Diagnosis", "doctor"]

_ORDER: Final = {"critical": 0, "warning": 1, "info": 2}
_LOOK_AT: Final = 20_000
"""Keys of a namespace that are looked at for a missing TTL: four seconds at the rate of a scan."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, worst first. Truthy when nothing is worse than "info"."""

    findings: tuple[Finding, ...]
    reports: Mapping[str, NodeReport]

    def __bool__(self) -> bool:
        return not self.critical and not self.warnings

    @property
    def critical(self) -> tuple[Finding, ...]:
        """Findings that break something now."""
        return tuple(each for each in self.findings if each.severity == "critical")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that will."""
        return tuple(each for each in self.findings if each.severity == "warning")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("code", "severity", "message", "fix", "node")
        return {
            "ok": bool(self),
            "nodes": list(self.reports),
            "findings": [{name: getattr(each, name) for name in names} for each in self.findings],
        }


async def doctor(client: RedisClient, *, namespace: str | None = "ap", max_keys: int = _LOOK_AT) -> Diagnosis:
    """Look at every server of the client and say what is wrong, and how to mend it.

    Reads INFO, CLIENT LIST, SLOWLOG and LATENCY, and up to `max_keys` keys of `namespace` (None: no keys) for those
    without a TTL. Changes nothing, and leaves idle times alone. What the ACL hides, and a server that does not answer,
    become findings of their own. Raises ServerUnavailable when no node of a Cluster can be found.

        for finding in (await doctor(redis)).findings:
            print(finding.severity, finding.message, "->", finding.fix)
    """
    reports = await Inspector(client).report(slowlog=128)
    findings = [
        replace(each, node=report.node) for report in reports.values() for rule in RULES for each in rule(report)
    ]
    if namespace is not None:
        findings += await _keys_without_ttl(client, namespace, max_keys)
    return Diagnosis(tuple(sorted(findings, key=lambda each: _ORDER[each.severity])), reports)


async def _keys_without_ttl(client: RedisClient, namespace: str, max_keys: int) -> list[Finding]:
    """Everything that the patterns create expires, except what is meant to stay (queues, boards): its shape is named."""
    escaped = "".join(f"\\{letter}" if letter in r"*?[]\^" else letter for letter in namespace)
    try:
        report: KeyReport = await KeyScan(client, match=f"{escaped}:*", max_keys=max_keys, top=0).run()
    except (RedisError, PatternError, OSError) as error:
        return [Finding("unavailable", "info", f"keys unavailable: {error}", "grant SCAN, TYPE, MEMORY USAGE and PTTL")]
    if not report.without_ttl:
        return []
    shapes = [group for group in report.groups if group.without_ttl]
    shapes.sort(key=lambda group: group.without_ttl, reverse=True)
    named = ", ".join(f"{group.name} ({group.without_ttl})" for group in shapes[:3])
    return [
        Finding(
            "keys-without-ttl",
            "info",
            f"{report.without_ttl} of {report.keys} keys below {namespace!r} never expire: {named}",
            "right for queues, boards and registers; anything else needs a TTL, or EXPIRE by hand",
        )
    ]
