"""The switchboard: from the one connection that listens to the buffers of all subscribers, in one event loop.

    listener --frame--> Route.hear --decoded once--> run of events --paced--> buffers --> readers

A route is one channel (pattern, shard channel) that the server is asked for, however many subscribe to it here. Events
that arrive together for one route are handed over together, so a burst costs each subscriber one step. A run ends when
an event for another route comes, so a subscriber of several channels sees the order of the server.

Nothing here waits for a subscriber or runs code of the user, but the codec.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from aredis_patterns.exceptions import WireClosed
from aredis_patterns.pipelining import Listener
from aredis_patterns.pubsub._events import Event
from aredis_patterns.pubsub._pacing import Pacer
from aredis_patterns.pubsub._routes import Address, Route, SwitchboardOptions

if TYPE_CHECKING:
    from aredis_patterns.pubsub._subscription import Subscription

__all__ = ["Switchboard"]


class Switchboard:
    """All routes of one `PubSub` in one event loop."""

    def __init__(self, options: SwitchboardOptions, find_listener: Callable[[], Listener]) -> None:
        self.loop = asyncio.get_running_loop()
        self.options: Final = options
        self.received = 0
        self._find_listener = find_listener
        self._routes: dict[Address, Route] = {}
        self._run: list[Event[Any]] = []
        self._run_of: Route | None = None
        self._pacer: Final = Pacer(self.loop, self.flush)
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Switchboard {len(self._routes)} routes, {len(self.subscriptions())} subscriptions>"

    # subscribers ----------------------------------------------------------------------------------------------------

    async def join(self, subscription: Subscription[Any], addresses: Sequence[Address]) -> None:
        """Connect a subscription to channels; returns when the server has confirmed all. One round trip if they are new.

        When this raises, some may be connected: the caller leaves them all.
        """
        self.flush()
        self._pacer.respect(subscription.limit)
        routes = [self._connect(subscription, address) for address in addresses]
        listener = self._find_listener()
        for route in routes:
            if route.heard is None:
                ear = await listener.ear_for(route.address.kind, route.address.on_server)
                if route.heard is None and route.subscriptions:  # nobody was quicker, and we are still wanted
                    route.heard = ear.add(
                        route.address.kind, route.address.on_server, route.hear, route.lost, route.resumed
                    )
        for route in routes:
            await self._confirm(route)

    def leave(self, subscription: Subscription[Any], address: Address) -> None:
        """Disconnect a subscription from a channel. The server hears of it after `linger`, if nobody else is there."""
        route = self._routes.get(address)
        if route is None or subscription not in route.subscriptions:
            return
        self.flush()
        del route.subscriptions[subscription]
        if route.subscriptions:
            return
        if self.options.linger and route.confirmed and not self.loop.is_closed():
            route.linger = self.loop.call_later(self.options.linger, self._drop, route)
        else:
            self._drop(route)

    def subscriptions(self) -> set[Subscription[Any]]:
        """All that are open."""
        return {subscription for route in self._routes.values() for subscription in route.subscriptions}

    def live(self, address: Address) -> bool:
        """Whether the server has confirmed this channel on a connection that is open now."""
        route = self._routes.get(address)
        return route is not None and route.heard is not None and route.heard.live

    @property
    def routes(self) -> int:
        """Channels and patterns that the server is asked for."""
        return len(self._routes)

    def _connect(self, subscription: Subscription[Any], address: Address) -> Route:
        route = self._routes.get(address)
        if route is None:
            route = self._routes[address] = Route(self, address)
        if route.linger is not None:
            route.linger.cancel()
            route.linger = None
        route.subscriptions[subscription] = None
        return route

    async def _confirm(self, route: Route) -> None:
        heard = route.heard
        if heard is None:  # ended while we waited for the Cluster
            raise WireClosed(f"{route.address.name!r} was given up while it was being subscribed")
        try:
            await heard.confirmed()
        except Exception:
            if not route.confirmed and route.heard is heard:
                route.heard = None  # the next one begins anew
                heard.close()
            raise
        route.confirmed = True

    def _drop(self, route: Route) -> None:
        route.linger = None
        if not route.subscriptions and self._routes.get(route.address) is route:
            del self._routes[route.address]
            if route.heard is not None:
                route.heard.close()
                route.heard = None

    def give_up(self, route: Route, error: Exception) -> None:
        """The listener will not hear this channel any more."""
        self.flush()
        for subscription in tuple(route.subscriptions):
            subscription.end(error)
        self._drop(route)

    # messages -------------------------------------------------------------------------------------------------------

    def pass_on(self, route: Route, event: Event[Any]) -> None:
        """One event for all subscribers of a route, together with those that come until then."""
        self.received += 1
        if self._run_of is not route:
            self.flush()
            self._run_of = route
        self._run.append(event)
        self._pacer.soon(len(self._run))

    def flush(self) -> None:
        """Hand over what has come so far."""
        run, route = self._run, self._run_of
        if route is None or not run:
            return
        self._run, self._run_of = [], None
        for subscription in route.subscriptions:
            subscription.fill(run)

    # ----------------------------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with the switchboard."""
        task = self.loop.create_task(work, name="aredis-patterns pubsub")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End all subscriptions, normally, and all tasks. Channels are left at once."""
        self.flush()
        for subscription in self.subscriptions():
            subscription.end(None)
        for route in tuple(self._routes.values()):
            if route.linger is not None:
                route.linger.cancel()
            self._drop(route)
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
