import pytest

from warren.cli import forward_spec
from warren.cli.forward_spec import Forward
from warren.errors import Invalid


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("8000", [Forward("tcp", "", 8000, 8000)]),
        ("5678:1234", [Forward("tcp", "", 5678, 1234)]),
        ("9090-9092", [Forward("tcp", "", port, port) for port in (9090, 9091, 9092)]),
        ("10000-10001:10010-10011", [Forward("tcp", "", 10000, 10010), Forward("tcp", "", 10001, 10011)]),
        ("1.2.3.4:8080:8081", [Forward("tcp", "1.2.3.4", 8080, 8081)]),
        ("[::1]:8080:8081", [Forward("tcp", "::1", 8080, 8081)]),
        ("127.0.0.1:8080", [Forward("tcp", "127.0.0.1", 8080, 8080)]),
    ],
)
def test_reads_specs(spec: str, expected: list[Forward]) -> None:
    assert forward_spec.parse([spec], []) == expected


@pytest.mark.parametrize(
    "spec", ["", "0", "65536", "9092-9090", "1-2:3-5", "a", "1.2.3:80", "999.1.1.1:80:80", "80:80:80", "80-"]
)
def test_refuses_others(spec: str) -> None:
    with pytest.raises(Invalid):
        forward_spec.parse([spec], [])


def test_a_local_port_is_used_once_per_protocol_and_address() -> None:
    with pytest.raises(Invalid, match="twice"):
        forward_spec.parse(["8080", "8079-8081"], [])
    both = forward_spec.parse(["8080", "127.0.0.1:8080"], ["8080"])
    assert [forward.protocol for forward in both] == ["tcp", "tcp", "udp"]


def test_needs_at_least_one() -> None:
    with pytest.raises(Invalid, match="no port"):
        forward_spec.parse([], [])


def test_listens_on_both_families_unless_told() -> None:
    assert Forward("tcp", "", 1, 1).listen_hosts == ("127.0.0.1", "::1")
    assert Forward("tcp", "0.0.0.0", 1, 1).listen_hosts == ("0.0.0.0",)
