"""Proxies between us and a server: which one to use.

The rules are those that programs share: `HTTPS_PROXY` for servers with TLS, `HTTP_PROXY` for those without,
`ALL_PROXY` where these say nothing (as curl has it; Go's programs do not read it), `NO_PROXY` for exceptions, and never
for this machine itself. Either way the server is reached through a tunnel (`proxy_handshakes`), because most of what we
say to it is no plain exchange of HTTP messages; the proxy resolves the server's name. The engine follows the same rules
for relays (`engine/src/driver/proxy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote_from_bytes, unquote_to_bytes

from warren.errors import Invalid
from warren.sdk import proxy_exceptions

_MAX_PART_BYTES = 255
"""Of a name or a password: SOCKS has one byte for each length (RFC 1929 §2)."""


class Scheme(StrEnum):
    """How a proxy is spoken to: HTTP, HTTP inside of TLS, SOCKS5."""

    HTTP = "http"
    HTTPS = "https"
    SOCKS = "socks5"


_SCHEMES = {"http": Scheme.HTTP, "https": Scheme.HTTPS, "socks5": Scheme.SOCKS, "socks5h": Scheme.SOCKS}
_PORTS = {Scheme.HTTP: 80, Scheme.HTTPS: 443, Scheme.SOCKS: 1080}


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password, as bytes: only HTTP and SOCKS give them an encoding."""

    name: bytes
    password: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy."""

    host: str
    port: int
    scheme: Scheme = Scheme.HTTP
    login: Login | None = None

    @property
    def name(self) -> str:
        """Say how people know it."""
        where = place(self.host, self.port)
        return where if self.scheme is Scheme.HTTP else f"{self.scheme}://{where}"

    @property
    def url(self) -> str:
        """Write all of it, the password included, as other libraries take it."""
        login = ""
        if self.login is not None:
            login = f"{quote_from_bytes(self.login.name, '')}:{quote_from_bytes(self.login.password, '')}@"
        return f"{self.scheme}://{login}{place(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Proxies:
    """The values of the variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`."""

    https: str = ""
    http: str = ""
    no: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Read the variables; their names may be written in capitals, which win, or not."""

        def value(name: str) -> str:
            return environment.get(name.upper()) or environment.get(name.lower()) or ""

        every = value("all_proxy")
        return cls(https=value("https_proxy") or every, http=value("http_proxy") or every, no=value("no_proxy"))

    def as_mapping(self) -> Mapping[str, str]:
        """Write them as the engine takes them."""
        return {"https": self.https, "http": self.http, "no": self.no}

    def find(self, host: str, port: int, *, secure: bool) -> Proxy | None:
        """Return the proxy for a server.

        Raises:
            Invalid: the proxy that it needs cannot be used.
        """
        written = (self.https if secure else self.http).strip()
        if not written or proxy_exceptions.cover(self.no, host, port):
            return None
        return parse(written)


def place(host: str, port: int) -> str:
    """Write a host and a port, IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(text: str) -> Proxy:
    """Read the URL of a proxy; without a scheme it is an HTTP proxy.

    Raises:
        Invalid: it is none that we can use.
    """
    scheme_text, separator, rest = text.partition("://")
    if not separator:
        scheme_text, rest = "http", text
    authority = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    login_text, at, host_text = authority.rpartition("@")
    _, secret, after = rest.rpartition("@")  # whatever it is, nothing before the last @ is shown
    shown = f"{scheme_text}://{'…@' if secret else ''}{after}"

    def unusable(why: str) -> Invalid:
        return Invalid(f"the proxy `{shown}` cannot be used: {why}", hint="check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY")

    scheme = _SCHEMES.get(scheme_text.lower())
    if scheme is None:
        raise unusable("its URL must begin with http://, https://, socks5:// or socks5h://")
    host, port_text = proxy_exceptions.split_port(host_text)
    if port_text and not (port_text.isascii() and port_text.isdecimal() and 0 < int(port_text) < 65536):
        raise unusable("its port is no port")
    if not host or not host.isprintable() or " " in host:
        raise unusable("it names no host")
    if ":" in host and not host_text.startswith("["):
        raise unusable("an IPv6 address stands in brackets")
    login = _login(login_text) if at else None
    if scheme is Scheme.SOCKS and login is not None and not _fits_socks(login):
        raise unusable("SOCKS takes names of 1 to 255 bytes and passwords of up to 255")
    return Proxy(host, int(port_text or _PORTS[scheme]), scheme, login)


def _login(text: str) -> Login:
    name, _, password = text.partition(":")
    return Login(unquote_to_bytes(name), unquote_to_bytes(password))


def _fits_socks(login: Login) -> bool:
    return 1 <= len(login.name) <= _MAX_PART_BYTES and len(login.password) <= _MAX_PART_BYTES
