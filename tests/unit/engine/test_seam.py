"""The stub of the native module says what the built module has, and the module refuses what it must."""

import ast
import inspect
import json
from pathlib import Path

import pytest

from warren import _engine

STUB = ast.parse((Path(inspect.getfile(_engine)).parent / "_engine.pyi").read_text())
CLASSES = [node for node in STUB.body if isinstance(node, ast.ClassDef)]
FUNCTIONS = [node for node in STUB.body if isinstance(node, ast.FunctionDef)]
ADDRESS = "fd7a:115c:a1e0::1"


def parameters(function: ast.FunctionDef) -> list[tuple[str, str]]:
    """List the names and kinds of a stub's parameters, without self."""
    arguments = function.args
    positional_only = [(argument.arg, "POSITIONAL_ONLY") for argument in arguments.posonlyargs]
    plain = [(argument.arg, "POSITIONAL_OR_KEYWORD") for argument in arguments.args]
    keyword = [(argument.arg, "KEYWORD_ONLY") for argument in arguments.kwonlyargs]
    return [entry for entry in positional_only + plain + keyword if entry[0] != "self"]


def built_parameters(function: object) -> list[tuple[str, str]]:
    assert callable(function)
    signature = inspect.signature(function)
    return [(name, entry.kind.name) for name, entry in signature.parameters.items() if name != "self"]


def defaults(function: ast.FunctionDef) -> dict[str, object]:
    arguments = function.args
    late = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = list(zip(late, arguments.defaults, strict=True))
    pairs += [
        (name, value)
        for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is not None
    ]
    return {name.arg: ast.literal_eval(value) for name, value in pairs}


def test_the_module_has_the_names_of_the_stub_and_no_more() -> None:
    stubbed = {node.name for node in [*CLASSES, *FUNCTIONS]}
    stubbed |= {
        node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    built = {name for name in vars(_engine) if not name.startswith("__") or name == "__version__"}
    assert built - {"_engine"} == stubbed


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda node: node.name)
def test_functions_have_the_stubs_signatures(function: ast.FunctionDef) -> None:
    assert built_parameters(getattr(_engine, function.name)) == parameters(function)


@pytest.mark.parametrize("stubbed", CLASSES, ids=lambda node: node.name)
def test_classes_have_the_stubs_members(stubbed: ast.ClassDef) -> None:
    built = getattr(_engine, stubbed.name)
    for member in stubbed.body:
        match member:
            case ast.FunctionDef(name="__init__"):
                assert built_parameters(built) == parameters(member)
                signature = inspect.signature(built)
                assert {name: signature.parameters[name].default for name in defaults(member)} == defaults(member)
            case ast.FunctionDef(name=name) if any(
                isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in member.decorator_list
            ):
                assert inspect.isdatadescriptor(getattr(built, name))
            case ast.FunctionDef(name=name):
                assert built_parameters(getattr(built, name)) == parameters(member)
                signature = inspect.signature(getattr(built, name))
                shown = {key: signature.parameters[key].default for key in defaults(member)}
                # The binding shows a default that Python has no literal for as an ellipsis.
                assert {**defaults(member), **{k: v for k, v in shown.items() if v is not ...}} == defaults(member)
            case ast.AnnAssign(target=ast.Name(id=name)):
                assert inspect.isdatadescriptor(getattr(built, name))
            case ast.Assign(targets=[ast.Name(id="__match_args__")], value=value):
                assert built.__match_args__ == ast.literal_eval(value)
            case _:
                pass


@pytest.mark.parametrize("name", ["EngineClosed", "InvalidConfig", "AddressInUse"])
def test_errors_have_one_base(name: str) -> None:
    assert issubclass(getattr(_engine, name), _engine.EngineError)


def test_keys_are_clamped_and_derived() -> None:
    private = _engine.generate_key()
    assert (private[0] & 7, private[31] & 0xC0) == (0, 0x40)
    assert private != _engine.generate_key()
    known = bytes.fromhex("0002030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f60")
    assert _engine.public_key(known).hex() == "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"private_key": b"short"}, "private_key has 32 bytes, not 5", id="key"),
        pytest.param({"disco_private_key": b""}, "disco_private_key has 32 bytes, not 0", id="disco-key"),
        pytest.param({"addresses": []}, "1 to 8 addresses, not 0", id="no-address"),
        pytest.param({"addresses": ["10.0.0.1"]}, "`10.0.0.1` is no IPv6 address", id="ipv4"),
        pytest.param({"stack": "fast"}, "`fast` is no stack", id="stack"),
        pytest.param({"mtu": 100}, "the MTU cannot be 100", id="mtu"),
        pytest.param({"tls_ca_pem": b"nothing"}, "tls_ca_pem holds no certificate", id="pem"),
        pytest.param({"proxies": {"ftp": "x"}}, "proxies has `ftp`", id="proxies"),
        pytest.param({"relay_headers": {"a b": "c"}}, "`a b` is no header", id="header-name"),
        pytest.param({"relay_headers": {"a": "c\r\nx: y"}}, "control characters", id="header-value"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(changed: dict[str, object], message: str) -> None:
    key = _engine.generate_key()
    values: dict[str, object] = {"private_key": key, "disco_private_key": key, "addresses": [ADDRESS], **changed}
    with pytest.raises(_engine.InvalidConfig, match=message):
        _engine.Engine(**values)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def engine() -> _engine.Engine:
    return _engine.Engine(_engine.generate_key(), _engine.generate_key(), [ADDRESS])


def test_a_portable_engine_says_what_it_is(engine: _engine.Engine) -> None:
    assert engine.stack in {"portable", "kernel"}
    assert engine.local_port > 0
    assert engine.fileno() >= 0
    assert engine.peers() == []
    engine.close()
    with pytest.raises(_engine.EngineClosed):
        engine.stats()


@pytest.mark.parametrize(
    "derp_map", [b"", b"{", b"[]", b'{"Regions":{"x":{}}}', json.dumps({"Regions": {"70000": {}}}).encode()]
)
def test_a_malformed_derp_map_is_refused(engine: _engine.Engine, derp_map: bytes) -> None:
    with pytest.raises(_engine.InvalidConfig, match="DERP map"):
        engine.set_derp_map(derp_map)
    engine.close()


def test_bad_arguments_are_refused_by_name(engine: _engine.Engine) -> None:
    for port in (0, -1, 65536):
        with pytest.raises((_engine.InvalidConfig, OverflowError)):
            engine.dial(ADDRESS, port)
    with pytest.raises(_engine.InvalidConfig, match="no IPv6 address"):
        engine.dial("example.com", 1)
    with pytest.raises(_engine.InvalidConfig, match="no kind of ping"):
        engine.ping(engine.public_key, kind="icmp")
    with pytest.raises(_engine.InvalidConfig, match="no endpoint"):
        engine.set_peer(
            engine.public_key,
            disco_key=engine.disco_public_key,
            allowed_ips=[],
            home_region=0,
            endpoints=["nowhere"],
            keepalive=False,
        )
    engine.close()
