"""Transactions that count once, batches with every command accounted for, and scripts of your own."""

from aredis_patterns.transactions._batch import Batch, BatchReport
from aredis_patterns.transactions._operations import Transfer, compare_and_set, increment, transfer
from aredis_patterns.transactions._optimistic import Optimistic, optimistic
from aredis_patterns.transactions._transaction import Queued, Transaction
from aredis_patterns.transactions._user_script import UserScript

__all__ = [
    "Batch",
    "BatchReport",
    "Optimistic",
    "Queued",
    "Transaction",
    "Transfer",
    "UserScript",
    "compare_and_set",
    "increment",
    "optimistic",
    "transfer",
]
