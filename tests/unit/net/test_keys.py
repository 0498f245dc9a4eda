from __future__ import annotations

from uuid import UUID

import pytest

from tests.unit.net import vectors
from tests.unit.net.vectors import Row
from warren.errors import Invalid
from warren.net import keys

A = bytes.fromhex(vectors.load("keys")["pairs"]["a"]["public"])


@pytest.mark.parametrize("row", vectors.rows("keys", "nodes"), ids=lambda row: row["uuid"])
def test_derives_addresses_and_ids_of_a_uuid(row: Row) -> None:
    node = UUID(row["uuid"])

    assert keys.tailnet_address(node) == row["tailnet"]
    assert keys.service_address(node) == row["service"]
    assert keys.node_id(node) == row["id"]


def test_writes_and_reads_the_forms_of_keys() -> None:
    document = vectors.load("keys")
    node, disco = document["node_key_of_a"], document["disco_key_of_a"]

    assert keys.key_to_text(keys.NODE_PREFIX, A) == node["text"]
    assert keys.node_key_to_binary(A).hex() == node["binary"]
    assert keys.key_to_text(keys.DISCO_PREFIX, A) == disco["text"]
    assert keys.key_from_text(keys.DISCO_PREFIX, disco["text"]) == A
    assert keys.key_from_text("", A.hex().upper()) == A
    assert keys.node_key_from_binary(bytes.fromhex(node["binary"])) == A


@pytest.mark.parametrize(
    "text",
    ["", "nodekey:", "nodekey:" + "0" * 63, "nodekey:" + "g" * 64, "discokey:" + "0" * 64, "0" * 64, "0" * 72],
)
def test_refuses_malformed_texts(text: str) -> None:
    with pytest.raises(Invalid):
        keys.key_from_text(keys.NODE_PREFIX, text)


@pytest.mark.parametrize("value", [b"", A, b"np" + A[:-1], b"np" + A + b"0", b"pn" + A])
def test_refuses_malformed_binaries(value: bytes) -> None:
    with pytest.raises(Invalid):
        keys.node_key_from_binary(value)


@pytest.mark.parametrize("row", vectors.rows("keys", "clamped"), ids=lambda row: row["random"])
def test_clamps(row: Row) -> None:
    assert keys.clamp(bytes.fromhex(row["random"])).hex() == row["private"]
    with pytest.raises(Invalid):
        keys.clamp(b"short")
