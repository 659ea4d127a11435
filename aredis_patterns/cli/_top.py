"""`aredis-patterns top`: servers and patterns, live, in a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import DataTable, Footer, Label, Sparkline, Static, TabbedContent, TabPane

from aredis_patterns.cli._frame import Frame
from aredis_patterns.cli._rows import TABLES, TableOf
from aredis_patterns.cli._tables import bytes_of, count_of, printable, seconds_of

__all__ = ["TopApp"]

HISTORY: Final = 120
"""Frames that a sparkline remembers."""


class Tile(Vertical):
    """One number, what it is, and how it went."""

    def __init__(self, title: str, identity: str) -> None:
        super().__init__(id=identity, classes="tile")
        self._title: Final = title
        self._history: deque[float] = deque(maxlen=HISTORY)

    def compose(self) -> ComposeResult:
        yield Label(self._title, classes="title")
        yield Static("-", classes="number", markup=False)
        yield Static("", classes="note", markup=False)
        yield Sparkline([], classes="line")

    def show(self, number: str, note: str, value: float | None) -> None:
        """Update all three."""
        self.query_one(".number", Static).update(number)
        self.query_one(".note", Static).update(note)
        if value is not None:
            self._history.append(value)
            self.query_one(Sparkline).data = list(self._history)


class TopApp(App[None]):
    """Asks `look` for a frame every `interval` seconds and shows it. Ends with q. Errors are shown, and it goes on."""

    TITLE = "aredis-patterns top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { overflow: hidden; }
    TabbedContent { height: 1fr; }
    #head { height: 1; padding: 0 1; background: $primary-background; }
    #problem { height: auto; padding: 0 1; color: $text-warning; display: none; }
    #tiles { height: 7; }
    .tile { border: round $primary; padding: 0 1; width: 1fr; height: 7; }
    .title { color: $text-muted; }
    .number { text-style: bold; }
    .note { color: $text-muted; height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    .line { height: 1; }
    DataTable { height: auto; max-height: 100%; }
    .caption { color: $text-accent; text-style: bold; padding: 0 1; margin-top: 1; }
    .empty { color: $text-muted; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("p", "pause", "Pause"),
        Binding("r", "refresh", "Refresh now"),
        Binding("1", "tab('patterns')", "Patterns"),
        Binding("2", "tab('slow')", "Slow commands"),
        Binding("3", "tab('commands')", "Commands"),
        Binding("4", "tab('clients')", "Clients"),
    ]

    def __init__(self, look: Callable[[], Awaitable[Frame]], *, interval: float = 1.0, where: str = "") -> None:
        super().__init__()
        self._look: Final = look
        self._interval: Final = interval
        self._where: Final = where
        self._timer: Timer | None = None
        self.paused = False
        self.frames = 0
        """Frames shown so far."""

    def compose(self) -> ComposeResult:
        yield Static(f"{self._where} ...", id="head", markup=False)
        yield Static("", id="problem", markup=False)
        with Horizontal(id="tiles"):
            yield Tile("commands per second", "rate-tile")
            yield Tile("memory", "memory-tile")
            yield Tile("hit ratio", "hits-tile")
            yield Tile("connections", "clients-tile")
        with TabbedContent(id="tabs"):
            for pane, title in (
                ("patterns", "Patterns"),
                ("slow", "Slow commands"),
                ("commands", "Commands"),
                ("clients", "Clients"),
            ):
                with TabPane(title, id=pane), VerticalScroll():
                    for table in TABLES:
                        if table.pane == pane:
                            yield Label(table.title, classes="caption")
                            yield Static(table.empty, id=f"no-{table.id}", classes="empty", markup=False)
                            yield DataTable[Text](id=table.id, show_cursor=False, zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Columns, then the first look."""
        for table in TABLES:
            self.query_one(f"#{table.id}", DataTable).add_columns(*table.columns)
        self._timer = self.set_interval(self._interval, self.action_refresh)
        self.action_refresh()

    def action_refresh(self) -> None:
        """Look once; a look that is still under way is enough."""
        if not any(worker.group == "look" and not worker.is_finished for worker in self.workers):
            self.run_worker(self._refresh(), group="look", exit_on_error=False)

    def action_pause(self) -> None:
        """Stop the clock, or start it again."""
        self.paused = not self.paused
        if self._timer is not None:
            (self._timer.pause if self.paused else self._timer.resume)()
        self.sub_title = "paused" if self.paused else ""
        head = self.query_one("#head", Static)
        head.set_class(self.paused, "paused")
        self.notify("paused" if self.paused else "running", timeout=1)

    def action_tab(self, pane: str) -> None:
        """Show another tab."""
        self.query_one(TabbedContent).active = pane

    async def _refresh(self) -> None:
        try:
            frame = await self._look()
        except Exception as error:
            self._problem([str(error) or type(error).__name__])
            return
        try:
            self.show(frame)
        except NoMatches:
            return  # the screen is going down

    def show(self, frame: Frame) -> None:
        """Put a frame on the screen."""
        up = f"   up {seconds_of(frame.uptime)}" if frame.uptime is not None else ""
        keys = f"   {count_of(frame.keys)} keys" if frame.keys is not None else ""
        self.query_one("#head", Static).update(
            f"{frame.server}   {self._where}{up}{keys}   look {seconds_of(frame.took)}"
        )
        self._problem([*frame.problems, *(each.problem for each in frame.processes if each.problem)])
        self._tiles(frame)
        for table in TABLES:
            self._fill(table, frame)
        self.frames += 1

    def _problem(self, problems: list[str]) -> None:
        line = self.query_one("#problem", Static)
        line.display = bool(problems)
        line.update("\n".join(map(printable, problems[:4])))

    def _tiles(self, frame: Frame) -> None:
        traffic = f"in {bytes_of(frame.input_bytes)}/s, out {bytes_of(frame.output_bytes)}/s"
        self.query_one("#rate-tile", Tile).show(count_of(frame.operations), traffic, frame.operations)
        limit = "no limit" if frame.limit is None else f"of {bytes_of(frame.limit)}"
        spread = "" if frame.fragmentation is None else f", {frame.fragmentation:.1f} x resident"
        self.query_one("#memory-tile", Tile).show(bytes_of(frame.used), f"{limit}{spread}", frame.used)
        ratio = "-" if frame.hit_ratio is None else f"{frame.hit_ratio:.1%}"
        self.query_one("#hits-tile", Tile).show(
            ratio, f"{count_of(frame.evicted)} keys evicted so far", frame.hit_ratio
        )
        self.query_one("#clients-tile", Tile).show(
            count_of(frame.clients), f"{count_of(frame.blocked)} wait in blocking commands", frame.clients
        )

    def _fill(self, table: TableOf, frame: Frame) -> None:
        rows = table.rows(frame)
        widget = self.query_one(f"#{table.id}", DataTable)
        widget.clear()
        for cells in rows:
            widget.add_row(*cells)
        widget.display = bool(rows)
        self.query_one(f"#no-{table.id}", Static).display = not rows
