"""Try one server at a time, step by step, and say which step failed: DNS, proxy, TCP, TLS, HTTP, the relay's upgrade.

Unlike the engine, which only wants a connection, these want to know why there is none.
"""

from __future__ import annotations

import base64
import os
import secrets
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream

from warren.clock import Clock
from warren.errors import Invalid, RemoteProtocolError, Unavailable
from warren.net import derp_map
from warren.net.derp_map import DERPMap, DERPNode, DERPRegion
from warren.net.network_report import Failure, RelayCheck, ServerCheck
from warren.sdk import connecting
from warren.sdk.client_transport import ResponseParser
from warren.sdk.proxies import Proxy, Scheme

STEP_SECONDS = 6.0
"""How long one step may take: a SYN repeated twice, or a slow TLS handshake."""
_DATES = ("expired", "not yet valid")


class ProbeError(Exception):
    """A step failed."""

    def __init__(self, failure: Failure, error: str, issuer: str = "") -> None:
        super().__init__(error)
        self.failure, self.error, self.issuer = failure, error, issuer


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect. `addresses` are used instead of asking DNS, `proxy` instead of a connection of our own."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    addresses: Sequence[str] = ()
    server_name: str = ""
    proxy: Proxy | None = None
    trust: ssl.SSLContext | None = None
    """Whom a proxy that speaks TLS must be trusted by; whom the system trusts where there is none."""

    @property
    def host_header(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


async def check_server(
    url: str, *, tls: ssl.SSLContext | None, headers: Mapping[str, str], clock: Clock, own_version: str
) -> ServerCheck:
    """Reach the control plane, read its version and its clock."""
    check = ServerCheck(url=url, own_version=own_version)
    path = urlsplit(url).path.rstrip("/") + "/api/v2/buildinfo"
    try:
        target = _server_target(url, tls)
        check = replace(check, proxy=_name(target.proxy))
        async with _connected(target) as (stream, _):
            began = anyio.current_time()
            parser = await _exchange(stream, target, path, headers)
            latency_seconds = anyio.current_time() - began
    except ProbeError as error:
        return replace(check, failure=error.failure, error=error.error, issuer=error.issuer)
    version = _version(parser)
    if not version:
        return replace(check, failure=Failure.HTTP, error=f"it answered {path} with status {parser.status}")
    skew_seconds = skew(parser.headers.get("date", ""), clock.now(), latency_seconds)
    return replace(check, latency_seconds=latency_seconds, version=version, skew_seconds=skew_seconds)


def _server_target(url: str, tls: ssl.SSLContext | None) -> Target:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host, secure = parts.hostname or "", parts.scheme == "https"
    return Target(host, port, tls if secure else None, proxy=_proxy(host, port, secure=secure), trust=tls)


def skew(date: str, now: datetime, latency_seconds: float) -> float | None:
    """Say how far our clock is ahead of the one that wrote `date`, a header exact to a second."""
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    middle = theirs + timedelta(seconds=0.5)
    return (now - timedelta(seconds=latency_seconds / 2) - middle).total_seconds()


def _version(parser: ResponseParser) -> str:
    import msgspec

    try:
        version = msgspec.json.decode(parser.take(), type=dict[str, object]).get("version")
    except msgspec.MsgspecError:
        return ""
    return str(version or "") if parser.status == 200 else ""


async def fetch(url: str, *, tls: ssl.SSLContext | None) -> tuple[int, bytes]:
    """GET a URL; return the status and the body.

    Raises:
        ProbeError: there is no answer, and why.
    """
    target = _server_target(url, tls)
    async with _connected(target) as (stream, _):
        parser = await _exchange(stream, target, urlsplit(url).path or "/", {})
        return parser.status, parser.take()


async def check_websocket(url: str, *, tls: ssl.SSLContext | None) -> str:
    """Open a WebSocket to the relay inside a server, by the URL of the server; say why it did not open, or nothing."""
    try:
        target = _server_target(url, tls)
        async with _connected(target) as (stream, _):
            error = await _upgrade(stream, target, _websocket_headers())
    except ProbeError as failed:
        error = failed.error
    return error


async def check_relays(known: DERPMap, *, tls: ssl.SSLContext, headers: Mapping[str, str]) -> Sequence[RelayCheck]:
    """Try every relay of a map, all at once."""
    found: dict[tuple[int, str], RelayCheck] = {}

    async def check(region: DERPRegion, node: DERPNode) -> None:
        found[region.region_id, node.name] = await check_relay(region, node, tls=tls, headers=headers)

    async with anyio.create_task_group() as tasks:
        for region in known.regions.values():
            for node in region.nodes:
                if not node.stun_only:
                    tasks.start_soon(check, region, node)
    return tuple(found[key] for key in sorted(found))


async def check_relay(
    region: DERPRegion, node: DERPNode, *, tls: ssl.SSLContext, headers: Mapping[str, str]
) -> RelayCheck:
    """Try a relay by `Upgrade: DERP` and by WebSocket."""
    target = _relay_target(node, tls)
    scheme = "http" if node.force_http else "https"
    check = RelayCheck(
        region.region_id,
        region.region_name,
        node.name,
        f"{scheme}://{target.host_header}/derp",
    )
    try:
        target = replace(target, proxy=_proxy(target.host, target.port, secure=not node.force_http))
        check = replace(check, proxy=_name(target.proxy))
        async with _connected(target) as (stream, addresses):
            began = anyio.current_time()
            upgrade_error = await _upgrade(stream, target, {**headers, "Upgrade": "DERP", "Connection": "Upgrade"})
            latency_seconds = anyio.current_time() - began
        async with _connected(target) as (stream, _):
            websocket_error = await _upgrade(stream, target, {**headers, **_websocket_headers()})
    except ProbeError as error:
        return replace(check, failure=error.failure, error=error.error, issuer=error.issuer)
    return replace(
        check,
        addresses=tuple(addresses),
        latency_seconds=latency_seconds,
        upgrade_error=upgrade_error,
        websocket_error=websocket_error,
    )


def _relay_target(node: DERPNode, tls: ssl.SSLContext) -> Target:
    context = None if node.force_http else tls
    if context is not None and node.insecure_for_tests:
        context = _unverified()
    port = node.derp_port or (80 if node.force_http else 443)
    return Target(
        node.host_name,
        port,
        context,
        addresses=derp_map.own_addresses(node),
        server_name=node.cert_name,
        trust=tls,
    )


def _websocket_headers() -> Mapping[str, str]:
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Protocol": "derp",
    }


async def _upgrade(stream: ByteStream, target: Target, headers: Mapping[str, str]) -> str:
    """Ask a relay to go on in its own protocol, and wait for its first byte; say what went wrong, or nothing."""
    try:
        parser = await _exchange(stream, target, "/derp", headers, whole=False)
        if parser.status != 101:
            text = parser.take()[:100].decode(errors="replace").strip()
            return f"status {parser.status}" + (f": {text}" if text else "")
        if not parser.rest:
            with anyio.fail_after(STEP_SECONDS):
                await stream.receive(1)  # the relay speaks first: its key
    except ProbeError as error:
        return error.error
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return "the connection was closed right after the upgrade"
    except TimeoutError:
        return f"the relay said nothing within {STEP_SECONDS:.0f} s"
    return ""


async def _exchange(
    stream: ByteStream, target: Target, path: str, headers: Mapping[str, str], *, whole: bool = True
) -> ResponseParser:
    """Send a GET and read the answer: all of it, or its head and what came along."""
    fields = {"Host": target.host_header, **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    parser = ResponseParser()
    try:
        with anyio.fail_after(STEP_SECONDS):
            await stream.send("\r\n".join(lines).encode("latin-1", "replace"))
            while not (parser.done if whole else parser.head_done):
                try:
                    parser.feed(await stream.receive(65536))
                except anyio.EndOfStream:
                    parser.feed_eof()
    except TimeoutError as error:
        raise ProbeError(Failure.HTTP, f"no answer within {STEP_SECONDS:.0f} s") from error
    except (Unavailable, RemoteProtocolError, anyio.BrokenResourceError, OSError) as error:
        raise ProbeError(Failure.HTTP, str(error) or "the connection was closed") from error
    return parser


@asynccontextmanager
async def _connected(target: Target) -> AsyncGenerator[tuple[ByteStream, Sequence[str]]]:
    """Connect step by step; yields the stream and the addresses that the name has."""
    addresses = [] if target.proxy else await _resolve(target)
    stream = await (_through_proxy(target, target.proxy) if target.proxy else _connect(addresses, target))
    try:
        if target.tls is not None:
            stream = await _secure(stream, target, target.tls)
        yield stream, addresses
    finally:
        await anyio.aclose_forcefully(stream)


async def _resolve(target: Target) -> list[str]:
    if target.addresses:
        return list(target.addresses)
    try:
        with anyio.fail_after(STEP_SECONDS):
            found = await anyio.getaddrinfo(target.host, target.port)
    except TimeoutError as error:
        raise ProbeError(Failure.DNS, f"DNS did not answer for {target.host}") from error
    except OSError as error:
        raise ProbeError(Failure.DNS, f"{target.host}: {error.strerror or error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _connect(addresses: Sequence[str], target: Target) -> ByteStream:
    """Connect to the first of the addresses that lets us; the last failure is told."""
    failed = ""
    for address in addresses:
        where = f"{address} port {target.port}"
        try:
            with anyio.fail_after(STEP_SECONDS / len(addresses)):
                return await anyio.connect_tcp(address, target.port)
        except TimeoutError:
            failed = f"no answer from {where} within {STEP_SECONDS / len(addresses):.0f} s"
        except OSError as error:
            cause = error.__cause__ or error
            number = getattr(cause, "errno", None)
            reason = os.strerror(number) if number and number > 0 else str(cause)  # asyncio puts a text of its own
            failed = f"{where}: {reason}"
    raise ProbeError(Failure.CONNECT, failed)


def _proxy(host: str, port: int, *, secure: bool) -> Proxy | None:
    try:
        return connecting.proxies().find(host, port, secure=secure)
    except Invalid as error:
        raise ProbeError(Failure.PROXY, str(error)) from error


def _name(proxy: Proxy | None) -> str:
    return proxy.name if proxy else ""


async def _through_proxy(target: Target, proxy: Proxy) -> ByteStream:
    """Have the proxy connect us."""
    place = Target(proxy.host, proxy.port, None)
    try:
        stream = await _connect(await _resolve(place), place)
    except ProbeError as error:
        raise ProbeError(Failure.PROXY, f"the proxy {proxy.name} cannot be reached: {error.error}") from error
    try:
        if proxy.scheme is Scheme.HTTPS:
            stream = await _secure_proxy(stream, place, proxy, target.trust or ssl.create_default_context())
        with anyio.fail_after(STEP_SECONDS):
            await connecting.shake_hands(stream, proxy, target.host, target.port)
    except TimeoutError as error:
        await anyio.aclose_forcefully(stream)
        limit = f"{STEP_SECONDS:.0f} s"
        raise ProbeError(Failure.PROXY, f"the proxy {proxy.name} did not open a tunnel within {limit}") from error
    except (Unavailable, RemoteProtocolError, Invalid) as error:
        await anyio.aclose_forcefully(stream)
        raise ProbeError(Failure.PROXY, str(error)) from error
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return stream


async def _secure_proxy(stream: ByteStream, place: Target, proxy: Proxy, tls: ssl.SSLContext) -> ByteStream:
    try:
        return await _secure(stream, place, tls)
    except ProbeError as error:
        trusted = error.failure not in (Failure.TLS, Failure.CLOCK)
        failure, hint = (
            (Failure.PROXY, " (without TLS write http:// before its name)") if trusted else (error.failure, "")
        )
        raise ProbeError(failure, f"the proxy {proxy.name}: {error.error}{hint}", error.issuer) from error


async def _secure(stream: ByteStream, target: Target, tls: ssl.SSLContext) -> ByteStream:
    from anyio.streams.tls import TLSStream

    name = target.server_name or target.host
    try:
        with anyio.fail_after(STEP_SECONDS):
            return await TLSStream.wrap(stream, hostname=name, ssl_context=tls, standard_compatible=False)
    except TimeoutError as error:
        raise ProbeError(Failure.NO_TLS, "the TLS handshake did not end") from error
    except ssl.SSLCertVerificationError as error:
        failure = Failure.CLOCK if any(word in error.verify_message for word in _DATES) else Failure.TLS
        raise ProbeError(failure, error.verify_message, await _issuer(target)) from error
    except (ssl.SSLError, OSError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        reason = getattr(error, "reason", "") or str(error) or "the connection was closed"
        raise ProbeError(Failure.NO_TLS, f"no TLS there: {reason}") from error


async def _issuer(target: Target) -> str:
    """Ask for the certificate again, this time without believing it, and say who issued it."""
    from anyio.streams.tls import TLSAttribute
    from cryptography import x509

    try:
        async with _connected(replace(target, tls=_unverified())) as (stream, _):
            der = stream.extra(TLSAttribute.peer_certificate_binary)  # noqa: S610  not Django's
    except ProbeError:
        return ""
    return x509.load_der_x509_certificate(der).issuer.rfc4514_string() if der else ""


def _unverified() -> ssl.SSLContext:
    """Trust anybody: only to look at a certificate, or where a map says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
