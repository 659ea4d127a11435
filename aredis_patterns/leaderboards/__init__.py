"""Leaderboards: who ranks where, in one round trip; and what is trending."""

from aredis_patterns.leaderboards._leaderboard import BoardStatistics, Leaderboard
from aredis_patterns.leaderboards._options import BoardOptions, Keep, Order, Ranking, Ties
from aredis_patterns.leaderboards._records import Entry, MemberData, Page, RankChange, Standings, Update
from aredis_patterns.leaderboards._standings import Board
from aredis_patterns.leaderboards._trending import Hit, Trending, TrendOptions
from aredis_patterns.leaderboards._windows import Window

__all__ = [
    "Board",
    "BoardOptions",
    "BoardStatistics",
    "Entry",
    "Hit",
    "Keep",
    "Leaderboard",
    "MemberData",
    "Order",
    "Page",
    "RankChange",
    "Ranking",
    "Standings",
    "Ties",
    "TrendOptions",
    "Trending",
    "Update",
    "Window",
]
