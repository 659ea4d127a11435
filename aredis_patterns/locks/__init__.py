"""Locks and coordination that survive cancellation, crashes and lost replies."""

from aredis_patterns.locks._election import Leader, LeaderElection
from aredis_patterns.locks._fenced_store import FencedStore
from aredis_patterns.locks._latch import CountDownLatch
from aredis_patterns.locks._lease import Lease
from aredis_patterns.locks._lock import Lock, LockInfo
from aredis_patterns.locks._lockable import Lockable, LockStatistics
from aredis_patterns.locks._multi import MultiLock
from aredis_patterns.locks._options import LeaseOptions
from aredis_patterns.locks._read_write import ReadWriteLock, ReadWriteSide
from aredis_patterns.locks._redlock import Redlock
from aredis_patterns.locks._semaphore import Semaphore
from aredis_patterns.locks._synchronized import synchronized

__all__ = [
    "CountDownLatch",
    "FencedStore",
    "Leader",
    "LeaderElection",
    "Lease",
    "LeaseOptions",
    "Lock",
    "LockInfo",
    "LockStatistics",
    "Lockable",
    "MultiLock",
    "ReadWriteLock",
    "ReadWriteSide",
    "Redlock",
    "Semaphore",
    "synchronized",
]
