from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from nacl.public import PrivateKey

from tests.integration.relay.client import DERPClient
from warren._engine import Relay

Connect = Callable[..., DERPClient]


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay(bytes(PrivateKey.generate()))
    yield relay
    relay.close()


@pytest.fixture
def connect(relay: Relay) -> Iterator[Connect]:
    """Connect a client to the relay; it is logged in unless told otherwise."""
    with ExitStack() as stack:

        def connect(key: PrivateKey | None = None, *, login: bool = True) -> DERPClient:
            near, far = socket.socketpair()
            relay.add(far.detach())
            client = stack.enter_context(DERPClient(near, key))
            return client.login() if login else client

        yield connect
