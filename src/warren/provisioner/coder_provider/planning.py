"""Plan a change of a resource: fill in defaults, find what differs, say what forces a replacement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warren.provisioner.coder_provider.schema import Attribute, Block, Mode, Schema
from warren.provisioner.coder_provider.values import UNKNOWN, Object, UnknownValue, Value, blocks


@dataclass(frozen=True, slots=True)
class Planned:
    """What a resource will look like, and which attributes force it to be created anew."""

    state: Object
    replaces: tuple[str, ...]


def plan(schema: Schema, prior: Object | None, proposed: Object, config: Object) -> Planned:
    """Plan to create the resource, to keep it, or (every attribute being immutable) to replace it."""
    wanted = with_defaults(schema.attributes, schema.blocks, proposed)
    _mark_computed(schema, wanted, config, prior)
    if prior is None:
        return Planned(wanted, ())
    differing: list[str] = []
    for name in [attribute.name for attribute in schema.attributes] + [block.name for block in schema.blocks]:
        if equivalent(prior.get(name), wanted.get(name)):
            wanted[name] = prior.get(name)
        else:
            differing.append(name)
    return Planned(wanted, tuple(differing))


def with_defaults(attributes: Sequence[Attribute], nested: Sequence[Block], value: Object) -> Object:
    """Fill in the defaults of attributes and blocks that the template left out."""
    result: Object = {}
    for attribute in attributes:
        given = value.get(attribute.name)
        result[attribute.name] = attribute.default if given is None else given
    for block in nested:
        given = value.get(block.name)
        if isinstance(given, UnknownValue):
            result[block.name] = given
            continue
        items = blocks(given) or ([{}] if block.computed else [])
        result[block.name] = [with_defaults(block.attributes, block.blocks, item) for item in items]
    return result


def without_nulls(schema: Schema, state: Object) -> Object:
    """Replace null inside nested blocks by the zero of its type, as published providers store it."""
    return {**state, **{block.name: _zeroed(block, state.get(block.name)) for block in schema.blocks}}


def conform(schema: Schema, stored: Object) -> Object:
    """Fit a state that another version of the provider stored to our schema: drop and add attributes."""
    return with_defaults(
        [Attribute(attribute.name, attribute.type) for attribute in schema.attributes],
        [_bare(block) for block in schema.blocks],
        stored,
    )


def equivalent(left: Value, right: Value) -> bool:
    """Tell whether two values mean the same; unset and the zero of a type do."""
    if isinstance(left, UnknownValue) or isinstance(right, UnknownValue):
        return False
    if left is None or right is None:
        return not left and not right
    if isinstance(left, str) or isinstance(right, str):
        return left == right or _same_number(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return all(equivalent(left.get(key), right.get(key)) for key in {*left, *right})
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        return len(left) == len(right) and all(map(equivalent, left, right))
    return left == right


def _same_number(left: Value, right: Value) -> bool:
    """Compare two numbers of which msgpack carried one as text, for its size."""
    words = [value for value in (left, right) if isinstance(value, str)]
    numbers = [value for value in (left, right) if isinstance(value, int | float) and not isinstance(value, bool)]
    if not (len(words) == len(numbers) == 1):
        return False
    try:
        return float(words[0]) == numbers[0]
    except ValueError:
        return False


def _mark_computed(schema: Schema, wanted: Object, config: Object, prior: Object | None) -> None:
    for attribute in schema.attributes:
        computed = attribute.mode in (Mode.COMPUTED, Mode.OPTIONAL_COMPUTED)
        if computed and config.get(attribute.name) is None:
            wanted[attribute.name] = UNKNOWN if prior is None else prior.get(attribute.name)
    for block in schema.blocks:
        inner = [item.name for item in block.attributes if item.mode is Mode.COMPUTED]
        if not inner:
            continue
        before = [] if prior is None else blocks(prior.get(block.name))
        wanted[block.name] = [
            {**item, **{name: before[index].get(name) if index < len(before) else UNKNOWN for name in inner}}
            for index, item in enumerate(blocks(wanted.get(block.name)))
        ]


def _zeroed(block: Block, value: Value) -> Value:
    if isinstance(value, UnknownValue):
        return value
    return [
        {
            **{
                item.name: _zero(item) if given.get(item.name) is None else given[item.name]
                for item in block.attributes
            },
            **{inner.name: _zeroed(inner, given.get(inner.name)) for inner in block.blocks},
        }
        for given in blocks(value)
    ]


def _zero(attribute: Attribute) -> Value:
    match attribute.type:
        case "string":
            return ""
        case "number":
            return 0
        case "bool":
            return False
        case _:
            return None


def _bare(block: Block) -> Block:
    return Block(
        block.name,
        block.nesting,
        tuple(Attribute(attribute.name, attribute.type) for attribute in block.attributes),
        tuple(_bare(inner) for inner in block.blocks),
    )
