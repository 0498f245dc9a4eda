"""What another implementation's agent once sent, sent again to ours: it must hear what it heard then."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID, uuid4

import anyio
import pytest
from anyio.abc import ByteStream

from tests.integration.agents.agency import Agency
from tests.unit.rpc.test_recorded import METHODS, bytes_from, packets_from
from warren.domain.agent import Lifecycle
from warren.rpc import yamux
from warren.rpc._pb import agent_pb2, tailnet_pb2
from warren.rpc.frames import Decoder, Kind, Packet, decode_error
from warren.rpc.memory import stream_pair

pytestmark = pytest.mark.anyio

UNANSWERED = "/coder.tailnet.v2.Tailnet/Coordinate"
UNIMPLEMENTED = "/coder.agent.v2.Agent/PushContextState"


async def adopt(agency: Agency, agent_id: UUID, token: UUID) -> None:
    """Give the workspace another agent, with the id that the recorded one had."""
    async with agency.world.pool.connection() as db:
        await db.execute(
            """
            INSERT INTO workspace_agents (
                id, resource_id, name, auth_token, architecture, operating_system, created_at, updated_at)
            SELECT %s, resource_id, 'recorded', %s, architecture, operating_system, created_at, updated_at
            FROM workspace_agents WHERE id = %s""",
            (agent_id, token, agency.agent_id),
        )


async def hear(stream: ByteStream, awaited: set[int]) -> dict[int, list[Packet]]:
    """Collect the packets of each call until all of `awaited` had an answer."""
    session = yamux.Session(client=True)
    for _ in range(200):
        session.open()
    decoders: dict[int, Decoder] = defaultdict(Decoder)
    packets: dict[int, list[Packet]] = defaultdict(list)
    with anyio.fail_after(20):
        while not awaited <= set(packets):
            for event in session.receive_data(await stream.receive()):
                if isinstance(event, yamux.DataReceived):
                    packets[event.stream_id] += decoders[event.stream_id].feed(event.data)
    return dict(packets)


async def replay(agency: Agency, token: UUID, awaited: set[int]) -> dict[int, list[Packet]]:
    """Send the bytes of the recording as the agent of that token; return what our control plane answers."""
    identity = await agency.agents.authenticate(token)
    ours, theirs = await stream_pair()
    heard: dict[int, list[Packet]] = {}

    async def serve() -> None:
        await agency.rpc.serve(theirs, identity, api_version="2.10", monitored=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        async with ours:
            await ours.send(bytes_from("agent-rpc", "client"))
            heard = await hear(ours, awaited)
    return heard


async def test_a_recorded_agent_hears_what_it_heard_then(agency: Agency) -> None:
    asked, heard_then = packets_from("agent-rpc", "client", []), packets_from("agent-rpc", "server", [])
    paths = {stream_id: packets[0].data.decode() for stream_id, packets in asked.items()}
    manifest = agent_pb2.Manifest()
    manifest.ParseFromString(heard_then[5][0].data)
    agent_id, token = UUID(bytes=manifest.agent_id), uuid4()
    await adopt(agency, agent_id, token)
    heard = await replay(agency, token, {stream_id for stream_id, path in paths.items() if path != UNANSWERED})

    for stream_id, path in paths.items():
        if path == UNANSWERED:
            continue
        first, then = heard[stream_id][0], heard_then[stream_id][0]
        if path == UNIMPLEMENTED:
            assert (first.kind, decode_error(first.data)[1]) == (Kind.ERROR, 12)
            continue
        assert first.kind == then.kind == Kind.MESSAGE, path
        response = METHODS[path].response()
        response.ParseFromString(first.data)
        if not isinstance(response, agent_pb2.Manifest | tailnet_pb2.DERPMap):
            assert first.data == then.data, path
            assert [packet.kind for packet in heard[stream_id]] == [Kind.MESSAGE, Kind.CLOSE_SEND]

    agent = (await agency.agents.get(agency.world.admin, agent_id)).parts.agent
    assert agent.version == "v2.36.99"
    assert agent.lifecycle in set(Lifecycle)
    async with agency.world.pool.connection() as db:
        [(count,)] = await (await db.execute("SELECT count(*) FROM workspace_agent_stats")).fetchall()
        [(ended,)] = await (
            await db.execute("SELECT count(*) FROM connection_logs WHERE disconnected_at IS NOT NULL")
        ).fetchall()
    assert (count, ended) == (2, 1)
