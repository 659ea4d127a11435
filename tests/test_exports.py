"""The face is written by hand, and complete."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

import pytest

import aredis_patterns
from aredis_patterns import exceptions

FAMILIES = [
    name
    for name in "ratelimit locks caching sessions queues pubsub leaderboards analytics transactions monitoring".split()
    if importlib.util.find_spec(f"aredis_patterns.{name}")
]
PUBLIC = ["pipelining", *FAMILIES, "testing", "exceptions", "types", "embedded", "servers", "hub"]


@pytest.mark.parametrize("name", PUBLIC)
def test_all_names_exist(name: str) -> None:
    module = importlib.import_module(f"aredis_patterns.{name}")
    exported: list[str] = getattr(module, "__all__", [])
    assert exported, f"{name} exports nothing"
    assert len(set(exported)) == len(exported)
    for each in exported:
        assert hasattr(module, each)


def test_the_face_has_each_name_once_and_all_of_each_family() -> None:
    face = aredis_patterns.__all__
    assert len(set(face)) == len(face)
    for name in face:
        assert getattr(aredis_patterns, name) is not None
    for family in ("pipelining", *FAMILIES):
        module = importlib.import_module(f"aredis_patterns.{family}")
        assert set(module.__all__) <= set(face), f"{family} has names that the face lacks"
    assert set(exceptions.__all__) <= set(face)


def test_every_error_of_ours_is_in_the_tree_at_the_top() -> None:
    for name in exceptions.__all__:
        assert issubclass(getattr(exceptions, name), exceptions.PatternError)
        assert name in (exceptions.__doc__ or "")


def test_every_module_says_what_it_owns() -> None:
    for module in pkgutil.walk_packages(aredis_patterns.__path__, "aredis_patterns."):
        if module.name.endswith(("__main__", "._core")):
            continue
        assert importlib.import_module(module.name).__doc__, f"{module.name} has no docstring"
