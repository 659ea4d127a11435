"""Queues: work that is handed from one process to another and not lost on the way."""

from aredis_patterns.queues._backoff import Backoff
from aredis_patterns.queues._dead_letters import DeadLetter, DeadLetters, StoredMessage
from aredis_patterns.queues._message import Message
from aredis_patterns.queues._policy import QueueOptions, SimpleQueueOptions
from aredis_patterns.queues._processing import MessageHandler
from aredis_patterns.queues._producer import MessageId
from aredis_patterns.queues._queue import ReliableQueue
from aredis_patterns.queues._simple import SimpleQueue
from aredis_patterns.queues._statistics import QueueStatistics, QueueStats
from aredis_patterns.queues._transaction import MessageTransaction

__all__ = [
    "Backoff",
    "DeadLetter",
    "DeadLetters",
    "Message",
    "MessageHandler",
    "MessageId",
    "MessageTransaction",
    "QueueOptions",
    "QueueStatistics",
    "QueueStats",
    "ReliableQueue",
    "SimpleQueue",
    "SimpleQueueOptions",
    "StoredMessage",
]
