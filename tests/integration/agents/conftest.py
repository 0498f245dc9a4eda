from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.integration.agents.agency import Agency, open_agency
from tests.integration.agents.http import Site, open_site
from tests.integration.builds.world import open_world


@pytest.fixture
async def agency(database_url: str) -> AsyncGenerator[Agency]:
    async with open_world(database_url) as world, open_agency(world) as opened:
        yield opened


@pytest.fixture
async def site(agency: Agency) -> AsyncGenerator[Site]:
    async with open_site(agency) as opened:
        yield opened
