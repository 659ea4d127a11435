"""Every Lua file: header = body = typed function. And luacheck has nothing to say."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

import aredis_patterns
from aredis_patterns._core.script import assemble
from aredis_patterns._core.script_header import parse_header

ROOT = Path(aredis_patterns.__file__).parent
FILES = sorted(file for file in ROOT.rglob("*.lua") if not file.name.startswith("_"))
WRITES = re.compile(
    r"redis\.call\('(SET|DEL|UNLINK|INCR\w*|DECR\w*|P?EXPIRE\w*|ZREMRANGE\w*|[HZSLRX](SET|ADD|PUSH|POP|REM|TRIM)\w*)'"
)


def script_text(file: Path) -> str:
    """What the server gets: the file with what it includes."""
    return assemble(file.stem, lambda name: file.with_name(f"{name}.lua").read_text())


each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_there_are_scripts() -> None:
    assert FILES


@each_file
def test_header_and_body_agree(file: Path) -> None:
    text = script_text(file)
    header = parse_header(text, file.stem)
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    for kind, fields in (("KEYS", header.keys), ("ARGV", header.args)):
        used = [int(number) for number in re.findall(rf"\b(?:{kind}\[|unpack\({kind}, )(\d+)[\])]", body)]
        assert used == list(range(1, len(fields) + 1)), f"{kind} of header and body differ, or are not read in order"
        for number, field in enumerate(fields, 1):
            local = rf"^local {field.name} = ([\w.]+[\[(])?{kind}\[{number}\][\])]?$"
            if field.variadic:
                local = rf"^local {field.name} = \{{unpack\({kind}, {number}\)\}}$"
            assert re.search(local, body, re.MULTILINE), f"{kind}[{number}] is not the local {field.name!r}"
    returned = re.findall(r"^return \{(.*)\}$", body, re.MULTILINE)
    assert returned, "a script returns a list of integers on its last line"


@each_file
def test_read_only_scripts_write_nothing_and_others_do(file: Path) -> None:
    text = script_text(file)
    assert bool(WRITES.search(text)) is not parse_header(text, file.stem).read_only


@each_file
def test_no_key_is_built_in_a_script(file: Path) -> None:
    fields = parse_header(script_text(file), file.stem).keys
    keys = {field.name for field in fields}
    keys |= set(re.findall(r"function [\w.]+\((\w+)", script_text(file)))  # a key that a function was given
    # What comes out of a list of keys has a name of its own; what is built would need quotes or dots.
    from_a_list = re.compile(r"(unpack\()?\w+" if any(field.variadic for field in fields) else r"(?!)")
    for call in re.findall(r"redis\.call\('(?!PUBLISH)\w+', ([^,)]+)", script_text(file)):
        assert call.strip() in keys or from_a_list.fullmatch(call.strip()), f"{call!r} is not one of KEYS"


@each_file
def test_one_typed_function_calls_it(file: Path) -> None:
    header = parse_header(script_text(file), file.stem)
    family = file.parent.parent.name
    module = import_module(f"aredis_patterns.{family}._scripts")
    signature = inspect.signature(getattr(module, file.stem), eval_str=True)
    keyword_only = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    names = {parameter.name for parameter in keyword_only}
    for parameter in keyword_only:  # a family with many keys hands them over as one named tuple
        names |= set(getattr(parameter.annotation, "_fields", ()))
    assert {field.name for field in (*header.keys, *header.args)} <= names
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in keyword_only)


def test_no_script_text_or_script_command_elsewhere() -> None:
    for file in ROOT.rglob("*.py"):
        strings = (n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant))
        for text in strings:
            if isinstance(text, str) and "\n" not in text:
                assert "redis.call(" not in text, f"script text in {file.name}"


def test_luacheck() -> None:
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        assert not os.environ.get("CI"), "luacheck is missing on CI"
        pytest.skip("luacheck is not installed")
    done = subprocess.run(
        [luacheck, "--quiet", str(ROOT)], capture_output=True, text=True, cwd=ROOT.parent, check=False
    )
    assert done.returncode == 0, done.stdout
