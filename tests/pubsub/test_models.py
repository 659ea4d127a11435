"""The scripts of durable subscriptions against their model, under a clock of our own."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib import resources
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from aredis_patterns.pubsub._keys import TopicKeys
from aredis_patterns.pubsub._models import DurableModel, Fetch

NOW = 1_758_000_000_000
TIME = "local time = redis.call('TIME')"
ACK_WAIT, MAX_DELIVERIES, MAX_UNACKED = 100, 3, 6

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 4)),
        st.tuples(st.just("trim"), st.integers(1, 3)),
        st.tuples(st.just("fetch"), st.integers(1, 5)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.sampled_from(["ack", "reject", "nack", "extend", "release"]), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.sampled_from([1, 40, 100, 250])),
    ),
    min_size=5,
    max_size=40,
)


class Scripts:
    """Runs the scripts as they are, but for the clock."""

    def __init__(self, client: Any, namespace: str) -> None:
        self.client = client
        self.topic = TopicKeys(namespace, "t")
        self.keys = self.topic.durable("d")
        self.request = 0

    def run(self, name: str, keys: list[str], args: list[Any], now: int) -> Any:
        text = resources.files("aredis_patterns.pubsub").joinpath("lua", f"{name}.lua").read_text()
        text = text.replace(TIME, "local time = {ARGV[#ARGV - 1], ARGV[#ARGV]}")
        return self.client.eval(text, len(keys), *keys, *args, now // 1000, now % 1000 * 1000)

    def publish(self, count: int, operation: int, now: int) -> list[tuple[str, int]]:
        keys = self.topic
        window, lengths = keys.published("p"), ",".join(["1"] * count)
        names = [keys.stream, keys.counter, window, window, keys.durables, keys.floors]
        args = [operation, 1024, 0, 0, 0, 0, keys.channel, 0, lengths, "x" * count]
        answers = [self.run("topic_publish", names, args, now) for _ in range(2)]  # a lost reply changes nothing
        assert answers[0] == answers[1]
        _, id, number = answers[0]
        ms, sequence = id.decode().split("-")
        return [(f"{ms}-{int(sequence) + at}", number + at) for at in range(count)]

    def fetch(self, count: int, now: int, *, again: bool = False) -> Fetch:
        self.request += not again
        keys, topic = asdict(self.keys), self.topic
        names = [topic.stream, *keys.values(), topic.last_fetch("d", "c"), topic.durables, topic.floors]
        args = ["d", self.request, count, ACK_WAIT, MAX_DELIVERIES, MAX_UNACKED, 60_000, 1, "0-0", 0]
        status, missed, given_up, next_due, batch = self.run("durable_fetch", names, args, now)
        assert status == 1
        return Fetch(missed, given_up, next_due, [(id.decode(), number, attempt) for id, number, attempt, _ in batch])

    def settle(self, id: str, attempt: int, reason: str) -> int:
        keys = [self.topic.stream, *asdict(self.keys).values(), self.topic.floors, self.topic.durables]
        args = ["d", f"{id} {attempt}", reason, MAX_UNACKED, self.topic.channel, 0, 60_000]
        return int(self.run("durable_settle", keys, args, 0)[0][0])

    def reschedule(self, id: str, attempt: int, delay: int, uncounted: bool, now: int) -> int:
        theirs, topic = self.keys, self.topic
        keys = [theirs.state, theirs.leases, theirs.attempts, theirs.order, theirs.dead, topic.floors, topic.durables]
        args = [f"{id} {attempt}", delay, int(uncounted), 1, topic.channel, 0, "d", 60_000]
        answers = [self.run("durable_reschedule", keys, args, now)[0][0] for _ in range(2)]
        assert answers[0] == answers[1]
        return int(answers[0])


@settings(
    max_examples=400 if os.environ.get("AREDIS_PATTERNS_LONG") else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_every_story_ends_as_the_model_says(redis_url: str, namespace: str, steps: list[tuple[str, int]]) -> None:
    client: Any
    with Redis.from_url(redis_url) as client:
        client.delete(*(client.keys(f"{namespace}*") or ["none"]))
        scripts, model, now = Scripts(client, namespace), DurableModel(), NOW
        scripts.fetch(1, now)
        model.fetch(now=now, count=1, ack_wait=ACK_WAIT)
        handed: list[tuple[str, int]] = []
        last: Fetch | None = None
        for operation, (step, amount) in enumerate(steps, 1):
            if step == "wait":
                now += amount
            elif step == "publish":
                for id, number in scripts.publish(amount, operation, now):
                    model.published(id, number)
            elif step == "trim":
                client.xtrim(scripts.topic.stream, minid="0")
                for id in list(model.stream)[:amount]:
                    client.xdel(scripts.topic.stream, id)
                model.trim(amount)
            elif step == "fetch":
                last = scripts.fetch(amount, now)
                assert last == model.fetch(
                    now=now,
                    count=amount,
                    ack_wait=ACK_WAIT,
                    max_deliveries=MAX_DELIVERIES,
                    max_unacked=MAX_UNACKED,
                )
                handed += [(id, attempt) for id, _, attempt in last.batch]
            elif step == "again":
                if last is not None and last.batch:
                    repeated = scripts.fetch(5, now, again=True)
                    assert repeated.batch == [each for each in last.batch if each[0] in model.stream]
                    assert repeated.missed == last.missed
            elif handed:
                id, attempt = handed[amount % len(handed)]
                if step in ("ack", "reject"):
                    given = scripts.settle(id, attempt, "no" if step == "reject" else "")
                    assert given == model.settle(id, attempt, give_up=step == "reject")
                else:
                    delay = {"nack": 0, "extend": ACK_WAIT, "release": 0}[step]
                    uncounted = step == "release"
                    given = scripts.reschedule(id, attempt, delay, uncounted, now)
                    assert given == model.reschedule(id, attempt, now=now, delay=delay, uncounted=uncounted)
            assert client.zcard(scripts.keys.leases) == client.zcard(scripts.keys.order) == len(model.held)
            assert client.xlen(scripts.keys.dead) == len(model.dead)
            if handed:
                assert int(client.hget(scripts.topic.floors, "d")) == model.floor
            immortal = [key for key in client.scan_iter(match=f"{namespace}*") if client.pttl(key) == -1]
            assert set(immortal) <= {scripts.topic.stream.encode(), scripts.topic.counter.encode()}


def test_the_example_of_the_model() -> None:
    model = DurableModel()
    model.published("1-0", 1)
    assert model.fetch(now=0, count=1, ack_wait=10).batch == [("1-0", 1, 1)]
    assert model.settle("1-0", 1) == 1
