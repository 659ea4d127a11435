"""The programs in the documentation run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md"))]


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("page", "number"), [(page, number) for page in PAGES for number in range(len(blocks(page)))])
def test_program(page: str, number: int, tmp_path: Path, redis_url: str) -> None:
    """Each block is a program, or a test file; `redis://localhost` stands for the server of the suite."""
    text = blocks(page)[number].replace('"redis://localhost"', repr(redis_url))
    text = text.replace("embedded://", redis_url)
    if re.search(r"^(async )?def test_", text, re.MULTILINE):
        file = tmp_path / "test_block.py"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", str(file)]
        command += [f"--aredis-url={redis_url}"]
    else:
        file = tmp_path / "block.py"
        command = [sys.executable, "-W", "error", str(file)]
    file.write_text(text)
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


EVERY_PAGE = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]


@pytest.mark.parametrize("page", sorted(str(page.relative_to(ROOT)) for page in EVERY_PAGE))
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_the_two_commands_are_marked() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("run", "test"):
        assert re.search(rf"^<!-- {name} command -->\n```sh\n[^\n]+\n```$", text, re.MULTILINE)
