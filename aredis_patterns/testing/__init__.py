"""Tools to test critical sections against a real server: faults, round trips, leaks, cancellation at every point.

The reference models of the algorithms are in `aredis_patterns.testing.models`, which imports the families.
"""

from aredis_patterns.testing._cancellation import cancel_everywhere
from aredis_patterns.testing._cluster import LocalCluster
from aredis_patterns.testing._faults import Rule, Watch, When
from aredis_patterns.testing._keys import no_leaked_keys
from aredis_patterns.testing._proxy import FaultProxy, ProxyStatistics
from aredis_patterns.testing._round_trips import RoundTrips, assert_round_trips

__all__ = [
    "FaultProxy",
    "LocalCluster",
    "ProxyStatistics",
    "RoundTrips",
    "Rule",
    "Watch",
    "When",
    "assert_round_trips",
    "cancel_everywhere",
    "no_leaked_keys",
]
