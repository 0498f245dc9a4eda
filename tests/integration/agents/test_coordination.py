"""Nodes that meet through the control plane, over real remote calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import anyio
import pytest

from tests.integration.agents.agency import DERP_MAP, Agency
from tests.integration.builds.scripted_daemon import resource
from warren.domain.build import WorkspaceStatus
from warren.errors import Unauthenticated, Unimplemented
from warren.net.addresses import tailnet_address
from warren.net.derp_map import DERPMap, DERPRegion
from warren.net.node import NodeInfo
from warren.rpc import convert_tailnet as convert
from warren.rpc._pb import tailnet_pb2 as pb
from warren.rpc.drpc import Call
from warren.rpc.methods import TailnetAPI
from warren.services.workspace_updates import WorkspaceUpdates

pytestmark = pytest.mark.anyio

Coordinate = Call[pb.CoordinateRequest, pb.CoordinateResponse]
Kind = pb.CoordinateResponse.PeerUpdate


def node(owner: UUID, *, region: int = 999) -> pb.Node:
    address = f"{tailnet_address(owner)}/128"
    return convert.node_to_message(
        NodeInfo(
            id=1,
            as_of=datetime(2026, 1, 1, tzinfo=UTC),
            key=bytes(32),
            disco_key=bytes(32),
            preferred_region=region,
            addresses=(address,),
            allowed_ips=(address,),
            region_latency_seconds={"999-v4": 0.012},
        )
    )


async def publish(call: Coordinate, described: pb.Node) -> None:
    await call.send(pb.CoordinateRequest(update_self=pb.CoordinateRequest.UpdateSelf(node=described)))


async def add_tunnel(call: Coordinate, peer_id: UUID) -> None:
    await call.send(pb.CoordinateRequest(add_tunnel=pb.CoordinateRequest.Tunnel(id=peer_id.bytes)))


async def hear(call: Coordinate) -> pb.CoordinateResponse.PeerUpdate:
    with anyio.fail_after(20):
        response = await call.receive()
    assert not response.error
    [update] = response.peer_updates
    return update


async def test_a_client_and_an_agent_are_introduced(agency: Agency) -> None:
    client_id = uuid4()
    async with agency.connect_agent() as (agent, _), agent.stream(TailnetAPI.Coordinate) as agent_call:
        await publish(agent_call, node(agency.agent_id))
        async with agency.connect_client(client_id) as client:
            async with client.stream(TailnetAPI.Coordinate) as call:
                await add_tunnel(call, agency.agent_id)
                heard = await hear(call)
                assert (heard.id, heard.kind, heard.node) == (
                    agency.agent_id.bytes,
                    Kind.KIND_NODE,
                    node(agency.agent_id),
                )
                await publish(call, node(client_id))
                heard = await hear(agent_call)
                assert (heard.id, heard.kind) == (client_id.bytes, Kind.KIND_NODE)
                ready = pb.CoordinateRequest.ReadyForHandshake(id=client_id.bytes)
                await agent_call.send(pb.CoordinateRequest(ready_for_handshake=[ready]))
                assert (await hear(call)).kind == Kind.KIND_READY_FOR_HANDSHAKE
                [latency] = (await agency.view()).latency.items()
                assert latency[0] == "Embedded"
                assert (latency[1].preferred, round(latency[1].milliseconds)) == (True, 12)
                await call.send(pb.CoordinateRequest(disconnect=pb.CoordinateRequest.Disconnect()))
                with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
                    await call.receive()
            assert (await hear(agent_call)).kind == Kind.KIND_DISCONNECTED


async def test_a_client_that_vanishes_is_lost(agency: Agency) -> None:
    client_id = uuid4()
    async with agency.connect_agent() as (agent, _), agent.stream(TailnetAPI.Coordinate) as agent_call:
        await publish(agent_call, node(agency.agent_id))
        async with agency.connect_client(client_id) as client, client.stream(TailnetAPI.Coordinate) as call:
            await add_tunnel(call, agency.agent_id)
            await publish(call, node(client_id))
            assert (await hear(agent_call)).kind == Kind.KIND_NODE
        assert (await hear(agent_call)).kind == Kind.KIND_LOST


async def test_a_client_may_reach_its_one_agent_only(agency: Agency) -> None:
    async with agency.connect_client() as client, client.stream(TailnetAPI.Coordinate) as call:
        other = uuid4()
        await add_tunnel(call, other)
        with anyio.fail_after(20):
            response = await call.receive()
            assert response.error == (f"authorization: invalid agent id, expected {agency.agent_id}, got {other}")
            with pytest.raises(anyio.EndOfStream):
                await call.receive()


async def test_an_agent_may_not_take_foreign_addresses(agency: Agency) -> None:
    async with agency.connect_agent() as (agent, _), agent.stream(TailnetAPI.Coordinate) as call:
        await publish(call, node(uuid4()))
        with anyio.fail_after(20):
            response = await call.receive()
        assert response.error.startswith("authorization: Addresses: invalid node address")


async def test_a_malformed_id_ends_the_call(agency: Agency) -> None:
    async with agency.connect_client() as client, client.stream(TailnetAPI.Coordinate) as call:
        await call.send(pb.CoordinateRequest(add_tunnel=pb.CoordinateRequest.Tunnel(id=b"short")))
        with anyio.fail_after(20):
            assert (await call.receive()).error.startswith("unable to convert bytes to UUID")
            with pytest.raises(anyio.EndOfStream):
                await call.receive()


async def test_a_client_that_does_not_read_is_dropped(agency: Agency) -> None:
    client_id = uuid4()
    async with agency.connect_agent() as (agent, _), agent.stream(TailnetAPI.Coordinate) as agent_call:
        await publish(agent_call, node(agency.agent_id))
        async with agency.connect_client(client_id) as client, client.stream(TailnetAPI.Coordinate) as call:
            await publish(call, node(client_id))
            await add_tunnel(call, agency.agent_id)
            assert (await hear(agent_call)).kind == Kind.KIND_NODE
            dropped: pb.CoordinateResponse.PeerUpdate | None = None
            with anyio.fail_after(15):
                async with anyio.create_task_group() as tasks:

                    async def publish_on() -> None:
                        for region in range(1, 10_000):
                            await publish(agent_call, node(agency.agent_id, region=region))

                    tasks.start_soon(publish_on)
                    dropped = await hear(agent_call)
                    tasks.cancel_scope.cancel()
            assert dropped is not None
            assert (dropped.id, dropped.kind) == (client_id.bytes, Kind.KIND_DISCONNECTED)
            assert dropped.reason == "failed update"


async def test_a_server_that_stops_says_so(agency: Agency) -> None:
    async with agency.connect_client() as client, client.stream(TailnetAPI.Coordinate) as call:
        await publish(call, node(uuid4()))
        await client.unary(TailnetAPI.PostTelemetry, pb.TelemetryRequest())
        agency.coordination.close()
        with anyio.fail_after(20):
            assert (await call.receive()).error == "coordinator closed"
            with pytest.raises(anyio.EndOfStream):
                await call.receive()


async def test_derp_maps_are_sent_when_they_change(agency: Agency) -> None:
    async with agency.connect_client() as client, client.stream(TailnetAPI.StreamDERPMaps) as call:
        await call.send(pb.StreamDERPMapsRequest())
        with anyio.fail_after(20):
            assert convert.derp_map_from_message(await call.receive()) == DERP_MAP
            agency.coordination.derp_maps.replace(DERP_MAP)  # no news
            changed = DERPMap({7: DERPRegion(7, "far", "Far away")})
            agency.coordination.derp_maps.replace(changed)
            assert convert.derp_map_from_message(await call.receive()) == changed


async def test_resume_tokens_give_a_peer_its_id_back(agency: Agency) -> None:
    tokens, clock = agency.resume_tokens, agency.world.clock
    peer_id = uuid4()
    async with agency.connect_client(peer_id) as client:
        answer = await client.unary(TailnetAPI.RefreshResumeToken, pb.RefreshResumeTokenRequest())
    assert answer.refresh_in.seconds == 12 * 3600
    assert await tokens.verify(answer.token) == peer_id
    head, body, signature = answer.token.split(".")
    for forged in (f"{head}.{body}.{signature[::-1]}", f"{head}.{body}", "junk", f"{head}..{signature}"):
        with pytest.raises(Unauthenticated) as caught:
            await tokens.verify(forged)
        assert [violation.field for violation in caught.value.violations] == ["resume_token"]
    clock.advance(timedelta(hours=24))
    with pytest.raises(Unauthenticated):
        await tokens.verify(answer.token)


async def test_signing_keys_are_replaced_and_old_tokens_still_count(agency: Agency) -> None:
    tokens, clock = agency.resume_tokens, agency.world.clock
    peer_id = uuid4()
    await tokens.issue(peer_id)
    clock.advance(timedelta(days=29, hours=23))
    old = await tokens.issue(peer_id)
    clock.advance(timedelta(hours=2))
    new = await tokens.issue(peer_id)
    assert old.token.split(".")[0] != new.token.split(".")[0]
    assert await tokens.verify(old.token) == peer_id
    assert await tokens.verify(new.token) == peer_id


async def test_workspace_updates_are_for_whole_users_only(agency: Agency) -> None:
    async with agency.connect_client() as client, client.stream(TailnetAPI.WorkspaceUpdates) as call:
        await call.send(pb.WorkspaceUpdatesRequest(workspace_owner_id=agency.world.admin.user_id.bytes))
        with anyio.fail_after(20), pytest.raises(Unimplemented):
            await call.receive()


async def test_workspace_updates_begin_with_all_and_go_on_with_news(agency: Agency) -> None:
    world = agency.world
    service = WorkspaceUpdates(world.pool, world.notifier)
    updates = service.follow(world.admin, world.admin.user_id)
    with anyio.fail_after(20):
        first = await anext(updates)
        [workspace] = first.upserted_workspaces
        assert (workspace.name, workspace.status) == ("dev", WorkspaceStatus.RUNNING)
        assert [agent.id for agent in first.upserted_agents] == [agency.agent_id]
        await world.build(agency.workspace, "stop")
        await agency.daemon.build(resources=[resource()])
        statuses: list[WorkspaceStatus] = []
        gone: list[UUID] = []
        while WorkspaceStatus.STOPPED not in statuses or not gone:
            update = await anext(updates)
            statuses += [each.status for each in update.upserted_workspaces]
            gone += [each.id for each in update.deleted_agents]
        assert gone == [agency.agent_id]
    await updates.aclose()
    nothing = service.follow(world.member, world.admin.user_id)
    assert not await anext(nothing)
    await nothing.aclose()
