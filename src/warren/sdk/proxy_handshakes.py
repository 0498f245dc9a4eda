"""What is said to a proxy until it has opened the way to a server; pure.

Send what `take_output` gives, read at most `wanted` bytes, give them to `feed`, until that says that the way is open.
HTTP's `CONNECT` is RFC 9110 §9.3.6; SOCKS5 is RFC 1928, its login RFC 1929.
"""

from __future__ import annotations

import base64
import ipaddress
from enum import IntEnum
from typing import Protocol

from warren.errors import Invalid, RemoteProtocolError, Unavailable
from warren.sdk.proxies import Login, Proxy, Scheme, place

MAX_ANSWER_BYTES = 16 << 10
"""An HTTP proxy's answer with longer headers is not one."""
_PIECE = 4096
_MAX_QUOTED = 200
"""Of a proxy's words reach a person, and nothing that a terminal would obey."""
_TLS_ALERT = b"\x15"

_SOCKS = 5
_SOCKS_LOGIN = 1
"""The version of the login."""
_CONNECT = 1
_MAX_NAME_BYTES = 255
_FORBIDDEN = 2
_REPLIES = {
    1: "it failed",
    2: "its rules forbid it",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "the time to live ran out",
    7: "it opens no tunnels",
    8: "it does not know this kind of address",
}


class _Method(IntEnum):
    """How a proxy wants us to log in."""

    NOT_AT_ALL = 0
    NAME_AND_PASSWORD = 2
    NONE_OF_THESE = 255


class _Kind(IntEnum):
    """Of an address."""

    IPV4 = 1
    DOMAIN = 3
    IPV6 = 4


class Handshake(Protocol):
    """A handshake with a proxy."""

    def take_output(self) -> bytes:
        """Return what is to be sent now, once."""
        ...

    @property
    def wanted(self) -> int:
        """How many bytes may be read now: what follows the proxy's words is the server's."""
        ...

    def feed(self, data: bytes) -> bool:
        """Take what the proxy said; say whether the way is open.

        Raises:
            Unavailable: there will be no tunnel, and why.
            RemoteProtocolError: this is no such proxy.
        """
        ...


def begin(proxy: Proxy, host: str, port: int) -> Handshake:
    """Ask for a way to a server.

    Raises:
        Invalid: the proxy cannot be told this name.
    """
    host = host.strip("[]")
    return Socks(proxy, host, port) if proxy.scheme is Scheme.SOCKS else Connect(proxy, host, port)


class Connect:
    """A tunnel through an HTTP proxy."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._answer = b""
        where = place(host, port)
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if proxy.login is not None:
            plain = proxy.login.name + b":" + proxy.login.password
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(plain).decode()}")
        self._output = "\r\n".join([*lines, "", ""]).encode()

    def take_output(self) -> bytes:
        """Return what is to be sent now, once."""
        output, self._output = self._output, b""
        return output

    @property
    def wanted(self) -> int:
        """Take more than the answer may have: nothing follows it before we speak again."""
        return _PIECE

    def feed(self, data: bytes) -> bool:
        """Take what the proxy said; say whether the way is open."""
        self._answer += data
        head, end, _ = self._answer.partition(b"\r\n\r\n")
        if end or not head.startswith(b"H"):
            self._check(head)
        elif len(self._answer) >= MAX_ANSWER_BYTES:
            raise Unavailable(f"the proxy {self._proxy.name} gives an answer without end")
        return bool(end)

    def _check(self, head: bytes) -> None:
        """Judge the answer, up to the empty line."""
        name = self._proxy.name
        version, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            if self._proxy.scheme is Scheme.HTTP and head.startswith(_TLS_ALERT):
                raise RemoteProtocolError(f"{name} is no HTTP proxy without TLS: write https:// before its name")
            raise RemoteProtocolError(f"{name} is no HTTP proxy")
        if status.startswith("2"):
            return
        rest = "".join(letter for letter in rest[:_MAX_QUOTED] if letter.isprintable())
        if status == "407" and (schemes := _only_other_schemes(head)):
            raise Unavailable(
                f"the proxy {name} wants a login by {schemes}, and only Basic is spoken here ({rest})",
                hint="put a helper in between that speaks it, such as px or cntlm",
            )
        if status == "407":
            raise Unavailable(f"the proxy {name} wants another name or password ({rest})", hint=_into_url(self._proxy))
        raise Unavailable(
            f"the proxy {name} did not open a tunnel ({rest})",
            hint="ask the proxy's administrator to allow CONNECT, or name the server in NO_PROXY",
        )


def _only_other_schemes(head: bytes) -> str:
    """Name the ways to log in that a proxy offers, where `Basic` is none of them (RFC 9110 §11.7.1)."""
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
    offers = (value.split() for name, _, value in lines if name.lower() == "proxy-authenticate")
    schemes = [words[0].rstrip(",") for words in offers if words]
    if any(scheme.lower() == "basic" for scheme in schemes):
        return ""
    return "".join(letter for letter in " or ".join(schemes)[:_MAX_QUOTED] if letter.isprintable())


class Socks:
    """A tunnel through a SOCKS5 proxy."""

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self._proxy = proxy
        self._request = bytes([_SOCKS, _CONNECT, 0]) + _destination(host) + port.to_bytes(2)
        methods = [_Method.NOT_AT_ALL] if proxy.login is None else [_Method.NOT_AT_ALL, _Method.NAME_AND_PASSWORD]
        self._output = bytes([_SOCKS, len(methods), *methods])
        self._input = b""
        self._need, self._next = 2, self._method

    def take_output(self) -> bytes:
        """Return what is to be sent now, once."""
        output, self._output = self._output, b""
        return output

    @property
    def wanted(self) -> int:
        """Take not a byte more than the proxy says."""
        return self._need - len(self._input)

    def feed(self, data: bytes) -> bool:
        """Take what the proxy said; say whether the way is open."""
        self._input += data
        while self._need and len(self._input) >= self._need:
            part, self._input = self._input[: self._need], self._input[self._need :]
            self._next(part)
        return not self._need

    def _method(self, part: bytes) -> None:
        name, login = self._proxy.name, self._proxy.login
        if part == b"HT":
            raise RemoteProtocolError(f"{name} is no SOCKS5 proxy but speaks HTTP: write http:// before its name")
        if part[0] != _SOCKS:
            raise RemoteProtocolError(f"{name} is no SOCKS5 proxy")
        match part[1]:
            case _Method.NOT_AT_ALL:
                self._ask()
            case _Method.NAME_AND_PASSWORD if login is not None:
                self._output = _login(login)
                self._need, self._next = 2, self._logged_in
            case _Method.NONE_OF_THESE if login is None:
                raise Unavailable(f"the proxy {name} wants a name and a password", hint=_into_url(self._proxy))
            case _Method.NONE_OF_THESE:
                raise Unavailable(f"the proxy {name} takes no name and password, nor goes on without")
            case _:
                raise self._broken()

    def _logged_in(self, part: bytes) -> None:
        if part[1] != 0:
            raise Unavailable(
                f"the proxy {self._proxy.name} refuses the name or the password in its URL", hint=_into_url(self._proxy)
            )
        self._ask()

    def _ask(self) -> None:
        self._output = self._request
        self._need, self._next = 4, self._reply

    def _reply(self, part: bytes) -> None:
        if part[0] != _SOCKS:
            raise self._broken()
        if code := part[1]:
            who = "the proxy's administrator" if code == _FORBIDDEN else "whoever runs the proxy, if it should"
            raise Unavailable(
                f"the proxy {self._proxy.name} did not open a tunnel "
                f"(SOCKS reply {code}: {_REPLIES.get(code, 'a reason that is not known')})",
                hint=f"ask {who} to let it reach the server, or name the server in NO_PROXY",
            )
        match part[3]:
            case _Kind.IPV4:
                self._need, self._next = 6, self._done
            case _Kind.IPV6:
                self._need, self._next = 18, self._done
            case _Kind.DOMAIN:
                self._need, self._next = 1, self._name_length
            case _:
                raise self._broken()

    def _name_length(self, part: bytes) -> None:
        self._need, self._next = part[0] + 2, self._done

    def _done(self, _: bytes) -> None:
        """Take from where the proxy connected, which nobody needs to know."""
        self._need = 0

    def _broken(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"the proxy {self._proxy.name} broke the SOCKS protocol")


def _login(login: Login) -> bytes:
    name, password = login.name, login.password
    return bytes([_SOCKS_LOGIN, len(name)]) + name + bytes([len(password)]) + password


def _destination(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        if len(name) > _MAX_NAME_BYTES:
            raise Invalid(f"the name {host} is too long for SOCKS") from None
        return bytes([_Kind.DOMAIN, len(name)]) + name
    return bytes([_Kind.IPV4 if address.version == 4 else _Kind.IPV6]) + address.packed


def _into_url(proxy: Proxy) -> str:
    return f"put them into the proxy's URL: {proxy.scheme}://name:password@host:port"
