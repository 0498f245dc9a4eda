from __future__ import annotations

from uuid import UUID

import pytest

from tests.unit.net import vectors
from tests.unit.net.vectors import Row
from warren.net import addresses


@pytest.mark.parametrize("row", vectors.rows("keys", "nodes"), ids=lambda row: row["uuid"])
def test_derives_addresses_and_ids_of_a_uuid(row: Row) -> None:
    node = UUID(row["uuid"])

    assert addresses.tailnet_address(node) == row["tailnet"]
    assert addresses.service_address(node) == row["service"]
    assert addresses.node_id(node) == row["id"]
