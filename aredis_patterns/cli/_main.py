"""Entry point: loads the application only when it can run, and turns known errors into one line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. A known error is one line on stderr and exit code 1; nobody sees a traceback of ours."""
    try:
        from aredis_patterns.cli._app import app
    except ModuleNotFoundError as error:
        _give_up(f"the command line needs {error.name}; install it with: pip install 'aredis-patterns[cli]'")
    else:
        app()


def _give_up(message: str) -> None:
    print(f"aredis-patterns: {message}", file=sys.stderr)
    raise SystemExit(1)
