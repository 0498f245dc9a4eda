"""Calls over a real socket pair."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from warren.errors import Invalid, RemoteError, RemoteProtocolError, Unavailable, Unimplemented
from warren.rpc import drpc, multiplexer
from warren.rpc._pb import agent_pb2, tailnet_pb2
from warren.rpc.drpc import Call, Client, Handler
from warren.rpc.memory import stream_pair
from warren.rpc.methods import AgentAPI, AnyMethod, TailnetAPI, Unary
from warren.rpc.multiplexer import Multiplexer

pytestmark = pytest.mark.anyio

Coordinate = Call[tailnet_pb2.CoordinateResponse, tailnet_pb2.CoordinateRequest]
DERPMaps = Call[tailnet_pb2.DERPMap, tailnet_pb2.StreamDERPMapsRequest]


@asynccontextmanager
async def connected(handlers: Mapping[AnyMethod, Handler]) -> AsyncGenerator[tuple[Client, Multiplexer, Multiplexer]]:
    left, right = await stream_pair()
    async with (
        Multiplexer(left, client=True) as client,
        Multiplexer(right, client=False) as server,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(drpc.serve, server, handlers)
        yield Client(client), client, server
        tasks.cancel_scope.cancel()


async def big_manifest(request: agent_pb2.GetManifestRequest) -> agent_pb2.Manifest:
    return agent_pb2.Manifest(agent_name="x" * 3_000_000)


async def test_a_unary_call_carries_more_than_a_window() -> None:
    async with connected({AgentAPI.GetManifest: big_manifest}) as (client, _, _):
        for _ in range(3):
            manifest = await client.unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())
            assert len(manifest.agent_name) == 3_000_000


async def test_who_asks_and_never_reads_is_not_heard_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiplexer, "MAX_UNSENT_BYTES", 256 * 1024)
    pings = bytes.fromhex("000200010000000000000007") * 4096
    hostile, ours = await stream_pair()
    async with hostile, Multiplexer(ours, client=False) as server:
        # What the sockets between the two hold is bounded too, so at some point nothing more is taken.
        with anyio.move_on_after(60) as patience:
            while True:
                with anyio.move_on_after(2) as attempt:
                    await hostile.send(pings)
                if attempt.cancelled_caught:
                    break
                assert server.session.pending_bytes() <= 2 * multiplexer.MAX_UNSENT_BYTES
        assert not patience.cancelled_caught, "its pings were taken for ever"


async def test_calls_leave_no_stream_behind() -> None:
    async with connected({AgentAPI.GetManifest: big_manifest}) as (client, mux, server):
        await client.unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())
        await mux.ping()
        assert not mux.session.is_open(1)
        await server.ping()
        assert not server.session.is_open(1)


async def refuse(request: agent_pb2.UpdateStatsRequest) -> agent_pb2.UpdateStatsResponse:
    raise Invalid("no such thing")


async def not_built(request: agent_pb2.UpdateStartupRequest) -> agent_pb2.Startup:
    raise Unimplemented("Unimplemented")


async def test_an_error_of_a_handler_reaches_the_caller() -> None:
    async with connected({AgentAPI.UpdateStats: refuse}) as (client, _, _):
        with pytest.raises(RemoteError, match="no such thing"):
            await client.unary(AgentAPI.UpdateStats, agent_pb2.UpdateStatsRequest())


async def test_an_unknown_and_an_unimplemented_call_are_told_apart_from_errors() -> None:
    async with connected({AgentAPI.UpdateStartup: not_built}) as (client, _, _):
        with pytest.raises(Unimplemented, match=r'unknown rpc: "/coder.agent.v2.Agent/GetManifest"'):
            await client.unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())
        with pytest.raises(Unimplemented):
            await client.unary(AgentAPI.UpdateStartup, agent_pb2.UpdateStartupRequest())


async def echo_until_disconnect(call: Coordinate) -> None:
    async for message in call:
        await call.send(tailnet_pb2.CoordinateResponse(error=str(message.add_tunnel.id)))
        if message.HasField("disconnect"):
            return


async def test_messages_flow_both_ways_and_the_server_may_end() -> None:
    async with (
        connected({TailnetAPI.Coordinate: echo_until_disconnect}) as (client, _, _),
        client.stream(TailnetAPI.Coordinate) as call,
    ):
        for number in range(100):
            tunnel = tailnet_pb2.CoordinateRequest.Tunnel(id=bytes([number]))
            await call.send(tailnet_pb2.CoordinateRequest(add_tunnel=tunnel))
            assert (await call.receive()).error == str(bytes([number]))
        await call.send(tailnet_pb2.CoordinateRequest(disconnect=tailnet_pb2.CoordinateRequest.Disconnect()))
        await call.receive()
        with pytest.raises(anyio.EndOfStream):
            await call.receive()


async def test_a_stream_ends_at_the_server_when_the_client_lost_interest() -> None:
    ended = anyio.Event()

    async def endless(call: DERPMaps) -> None:
        await call.receive()
        try:
            while True:
                await call.send(tailnet_pb2.DERPMap())
                await anyio.lowlevel.checkpoint()
        finally:
            ended.set()

    async with connected({TailnetAPI.StreamDERPMaps: endless}) as (client, _, _):
        async with client.stream(TailnetAPI.StreamDERPMaps) as call:
            await call.send(tailnet_pb2.StreamDERPMapsRequest())
            await call.close_send()
            await call.receive()
        with anyio.fail_after(20):
            await ended.wait()


async def test_a_slow_reader_holds_back_its_own_call_only() -> None:
    async def flood(call: DERPMaps) -> None:
        await call.receive()
        region = tailnet_pb2.DERPMap.Region(region_name="x" * 60_000)
        while True:
            await call.send(tailnet_pb2.DERPMap(regions={1: region}))

    async with (
        connected({TailnetAPI.StreamDERPMaps: flood, AgentAPI.GetManifest: big_manifest}) as (client, _, _),
        client.stream(TailnetAPI.StreamDERPMaps) as call,
    ):
        await call.send(tailnet_pb2.StreamDERPMapsRequest())
        with anyio.fail_after(20):
            await client.unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())


async def test_a_lost_connection_ends_calls_and_not_their_caller() -> None:
    left, right = await stream_pair()
    async with Multiplexer(left, client=True) as mux, anyio.create_task_group() as tasks:

        async def call() -> None:
            with pytest.raises(Unavailable):
                await Client(mux).unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())

        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        await right.aclose()
        await mux.closed.wait()
        with pytest.raises(Unavailable):
            await mux.open()


async def test_garbage_from_the_client_ends_its_call_only() -> None:
    async with connected({AgentAPI.GetManifest: big_manifest}) as (client, mux, _):
        stream = await mux.open()
        await stream.send(b"\x05\x00\x00\x00 this is no call")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()

        await client.unary(AgentAPI.GetManifest, agent_pb2.GetManifestRequest())


async def test_a_malformed_message_is_refused() -> None:
    async with connected({AgentAPI.GetManifest: big_manifest}) as (_, mux, _):
        client = Client(mux)
        wrong = agent_pb2.UpdateStartupRequest()
        wrong.startup.version = "v1"
        with pytest.raises((RemoteError, RemoteProtocolError)):
            # The path of one call with the body of another: field 1 is no length-delimited message there.
            bad = Unary("/coder.agent.v2.Agent/Nowhere", type(wrong), agent_pb2.Manifest)
            await client.unary(bad, wrong)


async def test_a_client_that_vanishes_while_we_send_is_no_failure() -> None:
    ended = anyio.Event()

    async def send_from_a_group(call: Coordinate) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                while True:
                    await call.send(tailnet_pb2.CoordinateResponse(error="x" * 60_000))
        finally:
            ended.set()

    with capture_logs() as logged:
        async with connected({TailnetAPI.Coordinate: send_from_a_group}) as (client, _, server):
            async with client.stream(TailnetAPI.Coordinate) as call:
                await call.receive()
            server.close()
            with anyio.fail_after(20):
                await ended.wait()
            await anyio.wait_all_tasks_blocked()
    assert logged == []
