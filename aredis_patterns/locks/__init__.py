"""Locks and coordination that survive cancellation, crashes and lost replies."""

from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lock import Lock, LockInfo
from aredis_patterns.locks._lockable import LeaseOptions, Lockable, LockStatistics

__all__ = ["Lease", "LeaseOptions", "Lock", "LockInfo", "LockStatistics", "Lockable"]
