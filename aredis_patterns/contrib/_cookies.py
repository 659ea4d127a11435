"""The cookie that carries a session: how it is read, written and taken back. Knows HTTP, and no web framework."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["SessionCookie"]

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLACE: Final = re.compile(r"[\x21-\x3a\x3c-\x7e]+")
_BLANK: Final = " \t"
_LONG_AGO: Final = "Thu, 01 Jan 1970 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """How the cookie looks. The defaults are what OWASP recommends: `__Host-`, Secure, HttpOnly, SameSite=Lax, no Domain.

    A name that begins with `__Host-` is a promise of the browser: no subdomain and no plain HTTP can have set it. Browsers
    send Secure cookies to http://localhost, too; for another address without TLS there is
    `SessionCookie(name="session", secure=False)`.

    `persistent=False`: the cookie ends with the browser, and at the latest with the session. True: it gets a Max-Age, the
    absolute timeout of the session.

    Raises ValueError for what a browser would refuse.
    """

    name: str = "__Host-session"
    secure: bool = True
    http_only: bool = True
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    path: str = "/"
    domain: str | None = None
    persistent: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"no browser takes a cookie of this name: {self.name!r}")
        if self.same_site not in ("Lax", "Strict", "None"):
            raise ValueError(f'same_site is "Lax", "Strict" or "None", got {self.same_site!r}')
        for place in (self.path, self.domain):
            if place is not None and not _PLACE.fullmatch(place):
                raise ValueError(f"neither a path nor a domain: {place!r}")
        prefix = self.name.lower()  # browsers do not care about its case
        if prefix.startswith("__host-") and not (self.secure and self.path == "/" and self.domain is None):
            raise ValueError(f'a cookie named {self.name!r} has secure=True, path="/" and no domain')
        if (prefix.startswith("__secure-") or self.same_site == "None") and not self.secure:
            raise ValueError(f"a cookie named {self.name!r} with SameSite={self.same_site} has secure=True")

    def read(self, headers: Iterable[str]) -> str | None:
        """The token in the Cookie headers of a request. None when there is none, or more than one: a browser that sends
        two has been given one by somebody else.

        Only blanks and tabs surround a name: `str.strip` would also take away spaces of Unicode, and then a cookie that any
        subdomain may set, as its name does not begin with `__Host-`, would count as ours.
        """
        found: str | None = None
        for header in headers:
            for pair in header.split(";"):
                name, equals, value = pair.partition("=")
                if equals and name.strip(_BLANK) == self.name:
                    value = value.strip(_BLANK)
                    if found is not None and found != value:
                        return None
                    found = value
        return found

    def set(self, token: str, max_age: int) -> str:
        """The value of Set-Cookie that gives a token; `max_age` in seconds counts if the cookie is persistent."""
        age = f"; Max-Age={max_age}" if self.persistent else ""
        return f"{self.name}={token}{age}{self._attributes()}"

    def unset(self) -> str:
        """The value of Set-Cookie that takes it back."""
        return f"{self.name}=; Max-Age=0; Expires={_LONG_AGO}{self._attributes()}"

    def _attributes(self) -> str:
        text = f"; Path={self.path}"
        if self.domain is not None:
            text += f"; Domain={self.domain}"
        if self.secure:
            text += "; Secure"
        if self.http_only:
            text += "; HttpOnly"
        return f"{text}; SameSite={self.same_site}"
