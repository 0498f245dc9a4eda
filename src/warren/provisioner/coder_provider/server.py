"""Serve the `coder/coder` provider to one Terraform run, on a unix socket of its own.

Terraform is told of the socket through `TF_REATTACH_PROVIDERS`, so it neither downloads nor starts the provider.
The values of the build come from the mapping that would be the published provider's environment, so both give the
same result.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

# We start programs beside it (uvloop with a real fork), and never use gRPC in a child: its fork handlers only complain.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import anyio
import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from warren.errors import Invalid
from warren.provisioner.coder_provider import checks, data_sources, managed, planning
from warren.provisioner.coder_provider._pb import tfplugin6_pb2 as pb
from warren.provisioner.coder_provider.schema import (
    DATA_SOURCES,
    PROVIDER,
    RESOURCES,
    Attribute,
    Block,
    Mode,
    Nesting,
    Schema,
)
from warren.provisioner.coder_provider.values import Object, decode_object, encode, text

log = structlog.get_logger()

ADDRESSES = ("registry.terraform.io/coder/coder", "registry.opentofu.org/coder/coder")
_STOP_GRACE_SECONDS = 0.0
_SERVICE = "tfplugin6.Provider"
# A template may embed large scripts; Terraform itself allows its providers 256 MiB.
_MAX_MESSAGE_BYTES = 256 << 20


class RunningProvider:
    """A provider that listens; the same one serves all Terraform commands of a job, one after the other."""

    def __init__(self, provider: CoderProvider, path: Path) -> None:
        self._provider = provider
        self.variables: Mapping[str, str] = {"TF_REATTACH_PROVIDERS": reattach(path)}

    def use(self, environment: Mapping[str, str]) -> None:
        """Answer with the values of `environment` from now on."""
        self._provider.use(environment)


@asynccontextmanager
async def serve_provider(environment: Mapping[str, str]) -> AsyncGenerator[RunningProvider]:
    """Serve the provider with the values of one build, for as long as the context lasts."""
    # In the temporary folder, not in the job's: a socket's path may have 107 bytes only.
    with TemporaryDirectory(prefix="warren-provider-") as folder:
        path = Path(folder) / "provider.sock"
        provider = CoderProvider(environment)
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ]
        )
        server.add_generic_rpc_handlers((_handlers(provider),))
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            yield RunningProvider(provider, path)
        finally:
            with anyio.CancelScope(shield=True):
                await server.stop(_STOP_GRACE_SECONDS)


def reattach(path: Path) -> str:
    """Describe a provider that listens on `path`, for both Terraform's and OpenTofu's registry names."""
    # `Test` keeps Terraform from ending the process it names, which is ours.
    described = {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": os.getpid(),
        "Test": True,
        "Addr": {"Network": "unix", "String": str(path)},
    }
    return json.dumps(dict.fromkeys(ADDRESSES, described))


class CoderProvider:
    """The calls of the plugin protocol, for the values of one build."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment: Mapping[str, str] = {}
        self._access_url = ""
        self.use(environment)

    def use(self, environment: Mapping[str, str]) -> None:
        """Answer with the values of `environment` from now on."""
        self._environment = environment
        self._access_url = environment.get("CODER_AGENT_URL") or data_sources.DEFAULT_URL

    async def get_metadata(self, _request: pb.GetMetadata.Request) -> pb.GetMetadata.Response:
        """List the types without their schemas."""
        return pb.GetMetadata.Response(
            server_capabilities=_CAPABILITIES,
            data_sources=[pb.GetMetadata.TypeMetadata(type_name=name) for name in DATA_SOURCES],
            resources=[pb.GetMetadata.TypeMetadata(type_name=name) for name in RESOURCES],
        )

    async def get_schema(self, _request: pb.GetProviderSchema.Request) -> pb.GetProviderSchema.Response:
        """Give the schemas of all types."""
        return _SCHEMA_RESPONSE

    async def get_functions(self, _request: pb.GetFunctions.Request) -> pb.GetFunctions.Response:
        """Offer no functions."""
        return pb.GetFunctions.Response()

    async def validate_provider(
        self, _request: pb.ValidateProviderConfig.Request
    ) -> pb.ValidateProviderConfig.Response:
        """Accept the provider block; its URL is checked where it is used."""
        return pb.ValidateProviderConfig.Response()

    async def configure(self, request: pb.ConfigureProvider.Request) -> pb.ConfigureProvider.Response:
        """Take the URL of the provider block, if it has one."""
        config = decode_object(request.config.msgpack) or {}
        given = config.get("url")
        if given == "":
            return pb.ConfigureProvider.Response(diagnostics=[_error("CODER_AGENT_URL must not be empty")])
        self._access_url = text(given) or self._access_url
        return pb.ConfigureProvider.Response()

    async def validate_resource(self, request: pb.ValidateResourceConfig.Request) -> pb.ValidateResourceConfig.Response:
        """Check the rules of a resource."""
        config = decode_object(request.config.msgpack) or {}
        return pb.ValidateResourceConfig.Response(diagnostics=list(_checked(request.type_name, config, data=False)))

    async def validate_data(
        self, request: pb.ValidateDataResourceConfig.Request
    ) -> pb.ValidateDataResourceConfig.Response:
        """Check the rules of a data source."""
        config = decode_object(request.config.msgpack) or {}
        return pb.ValidateDataResourceConfig.Response(diagnostics=list(_checked(request.type_name, config, data=True)))

    async def upgrade(self, request: pb.UpgradeResourceState.Request) -> pb.UpgradeResourceState.Response:
        """Fit a stored state to our schema."""
        stored: Object = json.loads(request.raw_state.json)
        state = planning.conform(RESOURCES[request.type_name], stored)
        return pb.UpgradeResourceState.Response(upgraded_state=_dynamic(state))

    async def read(self, request: pb.ReadResource.Request) -> pb.ReadResource.Response:
        """Refresh a resource."""
        state = decode_object(request.current_state.msgpack)
        if state is None:
            return pb.ReadResource.Response(new_state=request.current_state, private=request.private)
        fresh = managed.refresh(request.type_name, state, self._environment, self._access_url)
        return pb.ReadResource.Response(new_state=_dynamic(fresh), private=request.private)

    async def plan(self, request: pb.PlanResourceChange.Request) -> pb.PlanResourceChange.Response:
        """Plan a change of a resource."""
        proposed = decode_object(request.proposed_new_state.msgpack)
        if proposed is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state, legacy_type_system=True)
        planned = planning.plan(
            RESOURCES[request.type_name],
            decode_object(request.prior_state.msgpack),
            proposed,
            decode_object(request.config.msgpack) or {},
        )
        return pb.PlanResourceChange.Response(
            planned_state=_dynamic(planned.state),
            requires_replace=[_path(name) for name in planned.replaces],
            planned_private=request.prior_private,
            legacy_type_system=True,
        )

    async def apply(self, request: pb.ApplyResourceChange.Request) -> pb.ApplyResourceChange.Response:
        """Create a resource, or let it go."""
        planned = decode_object(request.planned_state.msgpack)
        if planned is None:
            return pb.ApplyResourceChange.Response(new_state=request.planned_state, legacy_type_system=True)
        schema = RESOURCES[request.type_name]
        config = decode_object(request.config.msgpack) or {}
        state = planned
        if decode_object(request.prior_state.msgpack) is None:
            try:
                state = managed.create(request.type_name, planned, config, self._environment, self._access_url)
            except Invalid as error:
                return pb.ApplyResourceChange.Response(
                    new_state=request.prior_state, diagnostics=[_error(error.message, error.detail)]
                )
        return pb.ApplyResourceChange.Response(
            new_state=_dynamic(planning.without_nulls(schema, state)),
            private=request.planned_private,
            legacy_type_system=True,
        )

    async def import_state(self, request: pb.ImportResourceState.Request) -> pb.ImportResourceState.Response:
        """Refuse: there is nothing outside that could be imported."""
        message = f"resource {request.type_name} doesn't support import"
        return pb.ImportResourceState.Response(diagnostics=[_error(message)])

    async def read_data(self, request: pb.ReadDataSource.Request) -> pb.ReadDataSource.Response:
        """Read a data source."""
        schema = DATA_SOURCES[request.type_name]
        given = decode_object(request.config.msgpack) or {}
        config = planning.with_defaults(schema.attributes, schema.blocks, given)
        try:
            state = data_sources.read(request.type_name, config, self._environment, self._access_url)
        except Invalid as error:
            first, more = _error(error.message, error.detail), error.violations
            return pb.ReadDataSource.Response(diagnostics=[first, *(_error(item.field, item.detail) for item in more)])
        return pb.ReadDataSource.Response(state=_dynamic(planning.without_nulls(schema, state)))

    async def stop(self, _request: pb.StopProvider.Request) -> pb.StopProvider.Response:
        """Do nothing: no call here takes long enough to be stopped."""
        return pb.StopProvider.Response()


class _Deserialize(Protocol):
    def __call__(self, data: bytes, /) -> Message: ...


def _handlers(provider: CoderProvider) -> grpc.GenericRpcHandler:
    service = pb.DESCRIPTOR.services_by_name["Provider"]
    calls: dict[str, Callable[..., Awaitable[Message]]] = {
        "GetMetadata": provider.get_metadata,
        "GetProviderSchema": provider.get_schema,
        "GetFunctions": provider.get_functions,
        "ValidateProviderConfig": provider.validate_provider,
        "ValidateResourceConfig": provider.validate_resource,
        "ValidateDataResourceConfig": provider.validate_data,
        "UpgradeResourceState": provider.upgrade,
        "ConfigureProvider": provider.configure,
        "ReadResource": provider.read,
        "PlanResourceChange": provider.plan,
        "ApplyResourceChange": provider.apply,
        "ImportResourceState": provider.import_state,
        "ReadDataSource": provider.read_data,
        "StopProvider": provider.stop,
    }
    assert set(calls) == {method.name for method in service.methods}
    handlers = {name: _handler(call, getattr(pb, name).Request.FromString) for name, call in calls.items()}
    return grpc.method_handlers_generic_handler(_SERVICE, handlers)


def _handler(call: Callable[..., Awaitable[Message]], read: _Deserialize) -> grpc.RpcMethodHandler[Message, Message]:
    async def answer(request: Message, _context: object) -> Message:
        try:
            return await call(request)
        except Exception as error:
            # Without a traceback: it would show the values of the build, secrets among them.
            log.error("provider.failed", call=call.__name__, error=repr(error))  # noqa: TRY400
            raise

    return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=read, response_serializer=_serialize)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _checked(kind: str, config: Object, *, data: bool) -> Iterator[pb.Diagnostic]:
    for broken in checks.violations(kind, config, data=data):
        yield _error(broken.message, broken.detail, attribute=broken.attribute)
    for name, message in checks.warnings(kind, config):
        yield pb.Diagnostic(
            severity=pb.Diagnostic.WARNING,
            summary="Argument is deprecated" if name == "dir" else message,
            detail=message if name == "dir" else "",
            attribute=_path(name),
        )


def _error(message: str, detail: str = "", *, attribute: str = "") -> pb.Diagnostic:
    return pb.Diagnostic(
        severity=pb.Diagnostic.ERROR,
        summary=message,
        detail=detail,
        attribute=_path(attribute) if attribute else None,
    )


def _path(attribute: str) -> pb.AttributePath:
    return pb.AttributePath(steps=[pb.AttributePath.Step(attribute_name=attribute)])


def _dynamic(value: Object) -> pb.DynamicValue:
    return pb.DynamicValue(msgpack=encode(value))


def _schema(schema: Schema) -> pb.Schema:
    return pb.Schema(
        version=schema.version,
        block=pb.Schema.Block(
            version=schema.version,
            attributes=[_attribute(attribute) for attribute in schema.attributes],
            block_types=[_block(block) for block in schema.blocks],
        ),
    )


def _attribute(attribute: Attribute) -> pb.Schema.Attribute:
    return pb.Schema.Attribute(
        name=attribute.name,
        type=json.dumps(attribute.type).encode(),
        required=attribute.mode is Mode.REQUIRED,
        optional=attribute.mode in (Mode.OPTIONAL, Mode.OPTIONAL_COMPUTED),
        computed=attribute.mode in (Mode.COMPUTED, Mode.OPTIONAL_COMPUTED),
        sensitive=attribute.sensitive,
        deprecated=attribute.deprecated,
    )


def _block(block: Block) -> pb.Schema.NestedBlock:
    return pb.Schema.NestedBlock(
        type_name=block.name,
        nesting=pb.Schema.NestedBlock.LIST if block.nesting is Nesting.LIST else pb.Schema.NestedBlock.SET,
        min_items=block.min_items,
        max_items=block.max_items,
        block=pb.Schema.Block(
            deprecated=block.deprecated,
            attributes=[_attribute(attribute) for attribute in block.attributes],
            block_types=[_block(inner) for inner in block.blocks],
        ),
    )


_CAPABILITIES = pb.ServerCapabilities(get_provider_schema_optional=True)
_SCHEMA_RESPONSE = pb.GetProviderSchema.Response(
    provider=_schema(PROVIDER),
    resource_schemas={name: _schema(schema) for name, schema in RESOURCES.items()},
    data_source_schemas={name: _schema(schema) for name, schema in DATA_SOURCES.items()},
    server_capabilities=_CAPABILITIES,
)
