"""Imports point downward, never sideways, never in a circle; and importing does nothing.

The table below is the architecture. A new top-level name has to be put into it, which is a decision.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import aredis_patterns

NAME = "aredis_patterns"
ROOT = Path(aredis_patterns.__file__).parent

GROUND = frozenset({"types", "exceptions"})
CORE = GROUND | {"_core"}
FAMILIES = frozenset(
    "ratelimit locks caching sessions queues pubsub leaderboards analytics transactions monitoring".split()
)
HUB = CORE | FAMILIES | {"pipelining", "embedded"}

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "exceptions": frozenset(),
    "types": frozenset({"exceptions"}),
    "_core": GROUND,
    "embedded": CORE,
    "servers": CORE | {"embedded"},
    "pipelining": CORE,
    **dict.fromkeys(FAMILIES, CORE | {"pipelining"}),
    "hub": HUB,
    "testing": HUB | {"hub", "servers"},
    "contrib": HUB | {"hub"},
    "cli": HUB | {"hub", "servers", "contrib"},
}

ANNOTATION_ONLY = {
    ("exceptions", "ratelimit"): "RateLimitExceeded carries the result of its family",
    ("exceptions", "transactions"): "BatchFailed carries the report of its family",
}
"""Arrows that exist for type checkers alone, each with its reason."""

# What a plain `pip install` brings. The rest belongs behind an extra and is imported where it is used.
INSTALLED = frozenset({"redis", "anyio", "hiredis"})
WITH_EXTRAS = frozenset({"contrib", "cli", "testing"})


class Import(NamedTuple):
    """`source` names `target` on `line`."""

    source: str
    target: str
    line: int
    lazy: bool
    """Inside a function."""
    typing: bool
    """Under `if TYPE_CHECKING`."""
    guarded: bool
    """Inside `try`."""


def imports_of(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[Import]:
    """All imports of a module, relative ones resolved; `from a import b` gives `a.b`."""
    yield from _walk(tree, Import(module, "", 0, False, False, False), is_package)


def _walk(node: ast.AST, here: Import, is_package: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = here
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inside = here._replace(lazy=True)
        elif isinstance(child, ast.Try):
            inside = here._replace(guarded=True)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                yield from _walk(ast.Module([statement], []), here._replace(typing=True), is_package)
            yield from _walk(ast.Module(child.orelse, []), here, is_package)
            continue
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            for target in _targets(child, here.source, is_package):
                yield here._replace(target=target, line=child.lineno)
        yield from _walk(child, inside, is_package)


def _targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        above = module.split(".")
        above = above[: len(above) - node.level + is_package]
        base = ".".join([*above, base] if base else above)
    return [f"{base}.{alias.name}" for alias in node.names]


def name_of(path: Path) -> str:
    parts = [NAME, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    """The first name below the package: what the table speaks of. "" is the face."""
    return module.split(".")[1] if "." in module else ""


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def _module_of(target: str, modules: Mapping[str, object]) -> str | None:
    """The module of ours that `target` is, or is in."""
    while target not in modules and "." in target:
        target = target.rpartition(".")[0]
    return target if target in modules else None


def _read(module: str) -> list[Import]:
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return list(imports_of(tree, module, is_package=path.name == "__init__.py"))


ALL = [found for module in MODULES for found in _read(module)]
OURS = [found for found in ALL if found.target.split(".")[0] == NAME]


def wrong_arrows(found: list[Import]) -> list[str]:
    """The imports that the table does not allow. The face may import everything, and nobody may import the face."""
    wrong: list[str] = []
    for item in found:
        source, target = unit_of(item.source), unit_of(item.target)
        if source in ("", target) or target in MAY_IMPORT.get(source, frozenset()):
            continue
        if item.typing and (source, target) in ANNOTATION_ONLY:
            continue
        wrong.append(f"{item.source}:{item.line} must not import {item.target}")
    return wrong


def cycle_in(found: list[Import], modules: Mapping[str, object]) -> list[str]:
    """A circle among imports that run when a module is loaded; empty when there is none."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for item in found:
        target = _module_of(item.target, modules)
        # `from package import module` inside the package itself loads the module, not the finished package.
        if target is not None and target != item.source and not item.lazy and not item.typing:
            graph[item.source].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_everything_has_a_layer() -> None:
    units = {unit_of(module) for module in MODULES} - {""}
    assert units <= MAY_IMPORT.keys(), "put the new name into MAY_IMPORT"


def test_imports_point_down() -> None:
    assert wrong_arrows(OURS) == []


def test_no_exception_outlives_its_reason() -> None:
    used = {(unit_of(found.source), unit_of(found.target)) for found in OURS if found.typing}
    assert ANNOTATION_ONLY.keys() <= used


def test_no_import_cycle() -> None:
    assert cycle_in(OURS, MODULES) == []


def test_what_is_not_installed_by_default_is_imported_where_it_is_used() -> None:
    known = INSTALLED | sys.stdlib_module_names | {NAME}
    eager = [
        f"{found.source}:{found.line} imports {found.target}"
        for found in ALL
        if unit_of(found.source) not in WITH_EXTRAS
        and not (found.lazy or found.typing or found.guarded)
        and found.target.split(".")[0] not in known
    ]
    assert eager == []


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("ratelimit._limit", "from aredis_patterns.locks import Lock", True),
        ("ratelimit._limit", "from ..locks import Lock", True),
        ("ratelimit._limit", "from .. import hub", True),
        ("ratelimit._limit", "from aredis_patterns import Lock", True),
        ("ratelimit._limit", "def f():\n    import aredis_patterns.hub", True),
        ("ratelimit._limit", "if TYPE_CHECKING:\n    from aredis_patterns.hub import Patterns", True),
        ("exceptions", "from aredis_patterns.ratelimit import RateLimitResult", True),
        ("exceptions", "if TYPE_CHECKING:\n    from aredis_patterns.ratelimit import RateLimitResult", False),
        ("ratelimit._limit", "from ._models import Model\nfrom .._core import keys\nimport redis", False),
    ],
)
def test_the_checker_knows_an_arrow(module: str, line: str, wrong: bool) -> None:
    """What the tests above rely on: each way to write an import is seen."""
    found = list(imports_of(ast.parse(line), f"{NAME}.{module}", is_package=False))
    ours = [item for item in found if item.target.startswith(NAME)]
    assert bool(wrong_arrows(ours)) is wrong


def test_the_checker_knows_a_cycle() -> None:
    modules = {"p": 1, "p.a": 1, "p.b": 1}

    def edge(source: str, line: str) -> list[Import]:
        return list(imports_of(ast.parse(line), source, is_package=False))

    there = edge("p.a", "from .b import x")
    assert cycle_in(there + edge("p.b", "from .a import y"), modules)
    assert cycle_in(there + edge("p.b", "def f():\n    from .a import y"), modules) == []
    assert cycle_in(there + edge("p.b", "if TYPE_CHECKING:\n    from .a import y"), modules) == []


WATCHED_IMPORT = """
import importlib, os, sys, threading
modules = sys.argv[1:]
for module in ("asyncio", "redis.asyncio", "anyio"):
    importlib.import_module(module)
done = []
def watch(event, args):
    if event in ("socket.__new__", "socket.connect", "socket.bind", "subprocess.Popen", "os.posix_spawn", "os.fork"):
        done.append((event, repr(args)[:200]))
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        done.append((event, repr(args)[:200]))
sys.addaudithook(watch)
for module in modules:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("aredis_patterns"):
            raise
    assert not done, f"importing {module} did {done}"
    assert threading.active_count() == 1, f"importing {module} started a thread"
"""


@pytest.mark.parametrize("part", ["the library", "what needs extras"])
def test_importing_does_nothing(part: str) -> None:
    """No socket, no event loop (it needs a socket), no process, no thread, no file written."""
    modules = [module for module in MODULES if (unit_of(module) in WITH_EXTRAS) is (part == "what needs extras")]
    modules = [module for module in modules if not module.endswith("__main__")]
    assert modules
    command = [sys.executable, "-B", "-c", WATCHED_IMPORT, *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
