"""What the connections of one `FaultProxy` share: the rules, who watches, what was counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random

from aredis_patterns.testing._faults import Rule, Watch, Words
from aredis_patterns.testing._round_trips import RoundTrips


@dataclass(eq=False, slots=True)
class Sent:
    """A command on its way."""

    words: Words
    rule: Rule | None
    depth: int
    """Its place in a chain of round trips; 0 for what is not counted."""


class Journal:
    """Asked before, and told after, each step of each command."""

    def __init__(self, *, seed: int) -> None:
        self.gate = asyncio.Event()
        """Closed while the proxy is paused."""
        self.gate.set()
        self.rules: list[Rule] = []
        self.watches: list[Watch] = []
        self.counts: list[RoundTrips] = []
        self.depth = 0
        """The place of the latest delivered reply in its chain of round trips."""
        self.commands: Counter[str] = Counter()
        self.replies = 0
        self.dropped_replies = 0
        self._random = Random(seed)

    def rule_for(self, words: Words) -> Rule | None:
        """The first rule that applies to this command."""
        return next((rule for rule in list(self.rules) if rule.applies(words, self._random)), None)

    def forwarding(self, words: Words, rule: Rule | None, *, counted: bool) -> Sent:
        """A command goes to the server."""
        self.commands[words[0].decode(errors="replace")] += 1
        sent = Sent(words, rule, self.depth + 1 if counted else 0)
        if counted:
            for count in self.counts:
                count.saw(words, sent.depth)
        for watch in self.watches:
            watch.saw(words, "forwarded")
        return sent

    def delivered(self, sent: Sent) -> None:
        """Its reply goes to the client."""
        self.replies += 1
        self.depth = max(self.depth, sent.depth)
        for watch in self.watches:
            watch.saw(sent.words, "answered")

    def dropped(self) -> None:
        """A reply went nowhere."""
        self.dropped_replies += 1
