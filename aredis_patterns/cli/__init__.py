"""The command `aredis-patterns`. Needs the extra `cli`; `demo` needs the extra `demo`."""

from aredis_patterns.cli._main import main

__all__ = ["main"]
