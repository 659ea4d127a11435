"""`Batches`: a subscription, read as lists of what is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Self, TypeVar

__all__ = ["Batches"]

ItemT_co = TypeVar("ItemT_co", covariant=True)


class Batches(Generic[ItemT_co]):
    """An async iterator of lists. See `Subscription.batches`."""

    def __init__(self, batch: Callable[[], Awaitable[list[ItemT_co]]]) -> None:
        self._batch: Final = batch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ItemT_co]:
        return await self._batch()
