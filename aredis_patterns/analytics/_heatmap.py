"""A retention table as a heat map: SVG or HTML, without a library and without a script. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, TypeAlias

__all__ = ["Row", "to_html", "to_svg"]

Row: TypeAlias = tuple[str, int, Sequence[float | None]]
"""Name, size, and shares from 0 to 100."""

WIDTH, HEIGHT, HEAD, SIZE = 52, 26, 96, 64
_LIGHT: Final = (247, 251, 255)
_DARK: Final = (8, 81, 156)


def to_svg(heads: Sequence[str], rows: Sequence[Row]) -> str:
    """A picture that stands alone. Each cell has its share as text and as a tooltip, so colour is never all there is."""
    columns = max((len(shares) for _, _, shares in rows), default=0)
    width, height = HEAD + SIZE + columns * WIDTH, (len(rows) + 1) * HEIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="retention by {escape(heads[0])}" font-family="sans-serif" font-size="12">'
    ]
    places = [0, HEAD, *(HEAD + SIZE + number * WIDTH for number in range(columns))]
    out += [_text(x + 6, 0, head, "#333") for x, head in zip(places, heads, strict=False)]
    for number, (name, size, shares) in enumerate(rows, 1):
        y = number * HEIGHT
        out += [_text(6, y, name, "#333"), _text(HEAD + 6, y, str(size), "#333")]
        for x, share in zip(places[2:], shares, strict=False):
            if share is None:
                continue
            out.append(
                f'<rect x="{x}" y="{y}" width="{WIDTH - 1}" height="{HEIGHT - 1}" fill="{_colour(share)}">'
                f"<title>{escape(name)}: {share:.1f} %</title></rect>"
            )
            out.append(_text(x + 8, y, f"{share:.0f}%", _ink(share)))
    return "\n".join([*out, "</svg>"]) + "\n"


def to_html(heads: Sequence[str], rows: Sequence[Row]) -> str:
    """One table with its colours inline."""
    out = ['<table style="border-collapse:collapse;font:13px sans-serif">', "<thead><tr>"]
    out += [f'<th scope="col" style="padding:4px 8px;text-align:left">{escape(head)}</th>' for head in heads]
    out.append("</tr></thead>\n<tbody>")
    for name, size, shares in rows:
        out.append(f'<tr><th scope="row" style="padding:4px 8px;text-align:left">{escape(name)}</th><td>{size}</td>')
        for share in shares:
            if share is None:
                out.append("<td></td>")
            else:
                style = f"background:{_colour(share)};color:{_ink(share)};padding:4px 8px;text-align:right"
                out.append(f'<td style="{style}">{share:.0f}%</td>')
        out.append("</tr>")
    return "\n".join([*out, "</tbody></table>"]) + "\n"


def _text(x: int, y: int, text: str, colour: str) -> str:
    return f'<text x="{x}" y="{y + HEIGHT - 8}" fill="{colour}">{escape(text)}</text>'


def _colour(share: float) -> str:
    part = min(max(share, 0.0), 100.0) / 100
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(_LIGHT, _DARK, strict=True))


def _ink(share: float) -> str:
    """Text that can be read on that colour."""
    return "#fff" if share >= 50 else "#08306b"
