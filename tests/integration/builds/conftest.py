from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.integration.builds.http import Site, open_site
from tests.integration.builds.world import World, open_world


@pytest.fixture
async def world(database_url: str) -> AsyncGenerator[World]:
    async with open_world(database_url) as opened:
        yield opened


@pytest.fixture
async def site(world: World) -> AsyncGenerator[Site]:
    async with open_site(world) as opened:
        yield opened
