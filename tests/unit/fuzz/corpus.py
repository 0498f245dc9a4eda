"""Try a parser on its committed corpus, and on inputs that were made from it by chance.

`@fuzz("stun")` gives a test its argument `data`: first every file of `tests/vectors/corpus/stun`, then mutations of
them. The same are tried in every run; `WARREN_FUZZ_EXAMPLES=100000` tries more, and others each time. An input that
fails belongs into the corpus, so that it is tried for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[2] / "vectors/corpus"
MAX_BYTES = 4096
"""Inputs that were made are not longer; those of the corpus may be."""

_EXAMPLES = int(os.environ.get("WARREN_FUZZ_EXAMPLES", "0"))
_USUAL_EXAMPLES = 150
_EDGES = b"\x00\x01\x02\x04\n\r \"'/:=\\{}\x7e\x7f\x80\xfe\xff"
_NUMBERS = (0, 1, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)

Test = Callable[[bytes], None]


@cache
def corpus(target: str) -> Sequence[bytes]:
    """Read the corpus of a target."""
    found = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    assert found, f"the corpus of {target} is empty"
    return found


def mutate(chance: Random, data: bytes, other: bytes) -> bytes:
    """Change an input in one way."""
    at = chance.randrange(len(data) + 1)
    end = chance.randint(at, len(data))
    match chance.randrange(8):
        case 0 if at < len(data):
            changed = bytes([data[at] ^ 1 << chance.randrange(8)])
            return data[:at] + changed + data[at + 1 :]
        case 1:
            return data[:at] + bytes([chance.choice(_EDGES)]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 3:
            number = chance.choice(_NUMBERS).to_bytes(4, "big")[chance.choice((0, 2)) :]
            return data[:at] + number + data[at + len(number) :]
        case 4:
            return data[:end] + data[at:]  # a piece twice
        case 5:
            return data[:at] + data[end:]
        case 6:
            return data[:at] + other[chance.randrange(len(other) + 1) :]
        case _:
            return data[:at] + chance.randbytes(chance.randint(1, 8)) + data[at:]


@st.composite
def mutated(draw: st.DrawFn, target: str) -> bytes:
    """Make an input from those of the corpus."""
    chance = draw(st.randoms(use_true_random=False))
    data = draw(st.sampled_from(corpus(target)))
    for _ in range(draw(st.integers(1, 6))):
        data = mutate(chance, data, chance.choice(corpus(target)))[:MAX_BYTES]
    return data


def fuzz(target: str) -> Callable[[Test], Test]:
    """Run a test of one argument, `data`, over the corpus and mutations of it."""
    usual = settings(
        max_examples=_EXAMPLES or _USUAL_EXAMPLES,
        derandomize=not _EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )

    def decorate(test: Test) -> Test:
        for each in corpus(target):
            test = example(data=each)(test)
        return usual(given(data=mutated(target))(test))

    return decorate


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """Give a stream, and the same cut into reads whose lengths the first eight bytes of `data` say."""
    lengths, stream = data[:8], data[8:]
    reads: list[bytes] = []
    position = number = 0
    while position < len(stream):
        length = 1 + lengths[number % len(lengths)]
        reads.append(stream[position : position + length])
        position += length
        number += 1
    return stream, reads
