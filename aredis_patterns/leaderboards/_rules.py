"""What all windows of one board have in common."""

from __future__ import annotations

from dataclasses import dataclass

from aredis_patterns._core.members import MemberCodec
from aredis_patterns.leaderboards._options import Order, Ranking
from aredis_patterns.leaderboards._sharing import SharedReads
from aredis_patterns.leaderboards._windows import Windows
from aredis_patterns.pipelining import ClientCommands

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What all windows of a board have in common."""

    commands: ClientCommands
    members: MemberCodec
    order: Order
    ranking: Ranking
    layout: str
    channel: str
    windows: Windows
    shared: SharedReads
    deadline: float

    @property
    def plain(self) -> bool:
        """Whether Redis' own commands answer."""
        return self.ranking == "ordinal" and not self.layout
