"""HTTP proxies between us and a server: which one to use, and the request that opens a tunnel through it.

The rules are those that programs share: `HTTPS_PROXY` for servers with TLS, `HTTP_PROXY` for those without, `NO_PROXY`
for exceptions (domains, addresses, networks, each with or without a port), and never for this machine itself. Either
way the server is reached by `CONNECT`, because most of what we say to it is no plain exchange of HTTP messages. The
engine follows the same rules for relays (`engine/src/driver/proxy.rs`).
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

from warren.errors import Invalid, RemoteProtocolError, Unavailable

MAX_ANSWER_BYTES = 16 << 10
DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy; `authorization` is the value of `Proxy-Authorization`."""

    host: str
    port: int
    authorization: str = ""

    @property
    def name(self) -> str:
        """Say how people know it."""
        return f"{self.host}:{self.port}"

    def connect_request(self, host: str, port: int) -> bytes:
        """Write the request for a tunnel to a server."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode()

    def check_answer(self, head: bytes) -> None:
        """Judge the answer, up to the empty line.

        Raises:
            Unavailable: there is no tunnel, and why.
            RemoteProtocolError: this is no proxy.
        """
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        version, _, rest = line.partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            raise RemoteProtocolError(f"{self.name} is no HTTP proxy")
        if status.startswith("2"):
            return
        if status == "407":
            raise Unavailable(
                f"the proxy {self.name} wants another name or password ({rest})",
                hint="put them into the proxy's URL: http://name:password@host:port",
            )
        raise Unavailable(
            f"the proxy {self.name} did not open a tunnel ({rest})",
            hint="ask the proxy's administrator to allow CONNECT, or name the server in NO_PROXY",
        )


@dataclass(frozen=True, slots=True)
class Proxies:
    """The values of the three variables."""

    https: str = ""
    http: str = ""
    no: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Read the variables; their names may be written in capitals, which win, or not."""

        def value(name: str) -> str:
            return environment.get(name.upper()) or environment.get(name.lower()) or ""

        return cls(https=value("https_proxy"), http=value("http_proxy"), no=value("no_proxy"))

    def as_mapping(self) -> Mapping[str, str]:
        """Write them as the engine takes them."""
        return {"https": self.https, "http": self.http, "no": self.no}

    def find(self, host: str, port: int, *, secure: bool) -> Proxy | None:
        """Return the proxy for a server.

        Raises:
            Invalid: the proxy that it needs cannot be used.
        """
        written = (self.https if secure else self.http).strip()
        name = host.strip("[]").rstrip(".").lower()
        if not written or _is_this_machine(name) or any(_covers(text, name, port) for text in self._exceptions()):
            return None
        return _parse(written)

    def _exceptions(self) -> list[str]:
        return self.no.replace(",", " ").lower().split()


def _parse(text: str) -> Proxy:
    url = text if "://" in text else f"http://{text}"
    shown = f"{url.partition('://')[0]}://{url.partition('://')[2].rpartition('@')[2]}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"the proxy `{shown}` cannot be used: {error}") from error
    if parts.scheme != "http":
        raise Invalid(f"the proxy `{shown}` cannot be used: only proxies reached by http:// are supported")
    if not host:
        raise Invalid(f"the proxy `{shown}` cannot be used: it names no host")
    authorization = ""
    if parts.username is not None:
        plain = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        authorization = f"Basic {base64.b64encode(plain).decode()}"
    return Proxy(host, port or DEFAULT_PORT, authorization)


def _is_this_machine(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _covers(exception: str, name: str, port: int) -> bool:
    if exception == "*":
        return True
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        pass  # one of them is a name
    place, separator, port_text = exception.rpartition(":")
    if separator and port_text.isdecimal():
        if int(port_text) != port:
            return False
        exception = place
    exception = exception.strip("[]").removeprefix("*").rstrip(".")
    if exception.startswith("."):
        return name.endswith(exception)
    return name == exception or name.endswith(f".{exception}")
