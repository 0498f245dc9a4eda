"""Templates that both providers refuse, by what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping


def _parameter(body: str) -> str:
    return f'data "coder_parameter" "p" {{\n  name = "p"\n{body}\n}}\n'


def _option(name: str, value: str) -> str:
    return f'option {{\n name = "{name}"\n value = "{value}"\n}}\n'


def _agent(body: str) -> str:
    return f'resource "coder_agent" "a" {{\n  os = "linux"\n  arch = "amd64"\n{body}\n}}\n'


def _app(body: str) -> str:
    return f'resource "coder_app" "a" {{\n  agent_id = "x"\n{body}\n}}\n'


def _script(body: str) -> str:
    return f'resource "coder_script" "a" {{\n  agent_id = "x"\n  display_name = "d"\n  script = "s"\n{body}\n}}\n'


def _preset(body: str) -> str:
    return f'data "coder_workspace_preset" "p" {{\n{body}\n}}\n'


_AB = _option("A", "a") + _option("B", "b")

# The value given for parameter `p`, and the template.
REFUSED: Mapping[str, tuple[str | None, str]] = {
    "no option of that value": ("c", _parameter(_AB)),
    "empty is no option": ("", _parameter(_AB)),
    "default is no option": (None, _parameter('default = "c"\n' + _AB)),
    "options of one name": (None, _parameter(_option("A", "a") + _option("A", "b"))),
    "options of one value": (None, _parameter(_option("A", "a") + _option("B", "a"))),
    "option of another type": (None, _parameter('type = "number"\n' + _AB)),
    "some are no options": ('["a","c"]', _parameter('type = "list(string)"\nform_type = "multi-select"\n' + _AB)),
    "no list": ("a", _parameter('type = "list(string)"\nform_type = "multi-select"\n' + _AB)),
    "no list either": ("a", _parameter('type = "list(string)"')),
    "no number": ("a", _parameter('type = "number"')),
    "no bool": ("a", _parameter('type = "bool"')),
    "too small": ("1", _parameter('type = "number"\nvalidation {\n min = 2\n}')),
    "too large": ("9", _parameter('type = "number"\nvalidation {\n max = 2\n}')),
    "too large, in its own words": (
        "9",
        _parameter('type = "number"\nvalidation {\n min = 1\n max = 2\n error = "{value}: {min}-{max}"\n}'),
    ),
    "no integer": ("1.5", _parameter('type = "number"\nvalidation {\n min = 1\n}')),
    "no match": ("x", _parameter('validation {\n regex = "^a$"\n error = "only a"\n}')),
    "no error for a regex": ("x", _parameter('validation {\n regex = "^a$"\n}')),
    "bad regex": ("x", _parameter('validation {\n regex = "("\n error = "e"\n}')),
    "min of text": ("x", _parameter("validation {\n min = 1\n}")),
    "max of text": ("x", _parameter("validation {\n max = 1\n}")),
    "monotonic text": ("x", _parameter('validation {\n monotonic = "increasing"\n}')),
    "regex of a number": ("1", _parameter('type = "number"\nvalidation {\n regex = "a"\n error = "e"\n}')),
    "regex of a list": ("[]", _parameter('type = "list(string)"\nvalidation {\n regex = "a"\n error = "e"\n}')),
    "bool in other words": ("1", _parameter('type = "bool"\nvalidation {\n error = "e"\n}')),
    "immutable and ephemeral": (None, _parameter('default = "a"\nephemeral = true')),
    "ephemeral without default": (None, _parameter("mutable = true\nephemeral = true")),
    "form for no options": (
        None,
        _parameter('type = "number"\ndefault = 1\nform_type = "slider"\n' + _option("1", "1")),
    ),
    "form of another type": (None, _parameter('type = "bool"\nform_type = "slider"')),
    "unknown type": (None, _parameter('type = "map"')),
    "unknown form": (None, _parameter('form_type = "wheel"')),
    "unknown monotonic": ("1", _parameter('type = "number"\nvalidation {\n monotonic = "up"\n}')),
    "unknown system": (None, 'resource "coder_agent" "a" {\n  os = "plan9"\n  arch = "amd64"\n}\n'),
    "unknown processor": (None, 'resource "coder_agent" "a" {\n  os = "linux"\n  arch = "386"\n}\n'),
    "unknown auth": (None, _agent('auth = "password"')),
    "negative timeout": (None, _agent("connection_timeout = -1")),
    "metadata twice": (
        None,
        _agent(
            'metadata {\n key = "a"\n script = "s"\n interval = 1\n}\n'
            'metadata {\n key = "a"\n script = "s"\n interval = 1\n}'
        ),
    ),
    "no monitor": (None, _agent("resources_monitoring {}")),
    "threshold": (None, _agent("resources_monitoring {\n memory {\n enabled = true\n threshold = 101\n}\n}")),
    "relative volume": (
        None,
        _agent('resources_monitoring {\n volume {\n path = "a"\n enabled = true\n threshold = 1\n}\n}'),
    ),
    "slug": (None, _app('slug = "a--b"\nurl = "http://x"')),
    "command and url": (None, _app('slug = "a"\nurl = "http://x"\ncommand = "c"')),
    "external and shared": (None, _app('slug = "a"\nurl = "http://x"\nexternal = true\nshare = "public"')),
    "unknown share": (None, _app('slug = "a"\nurl = "http://x"\nshare = "all"')),
    "unknown open_in": (None, _app('slug = "a"\nurl = "http://x"\nopen_in = "window"')),
    "long name": (None, _app(f'slug = "a"\nurl = "http://x"\ndisplay_name = "{"x" * 65}"')),
    "long group": (None, _app(f'slug = "a"\nurl = "http://x"\ngroup = "{"x" * 65}"')),
    "long tooltip": (None, _app(f'slug = "a"\nurl = "http://x"\ntooltip = "{"x" * 2049}"')),
    "command and health": (
        None,
        _app('slug = "a"\ncommand = "c"\nhealthcheck {\n url = "http://x"\n interval = 1\n threshold = 1\n}'),
    ),
    "command and subdomain": (None, _app('slug = "a"\ncommand = "c"\nsubdomain = true')),
    "external and command": (None, _app('slug = "a"\nexternal = true\ncommand = "c"')),
    "devcontainer": (None, 'resource "coder_devcontainer" "d" {\n agent_id = "x"\n workspace_folder = ""\n}\n'),
    "task": (None, 'resource "coder_ai_task" "t" {\n app_id = "x"\n}\n'),
    "script without trigger": (None, _script("")),
    "script that blocks nothing": (None, _script("run_on_stop = true\nstart_blocks_login = true")),
    "bad cron": (None, _script('cron = "61 * * * * *"')),
    "few fields": (None, _script('cron = "* * *"')),
    "script timeout": (None, _script("run_on_start = true\ntimeout = -1")),
    "env name": (None, 'resource "coder_env" "a" {\n  agent_id = "x"\n  name = "1A"\n}\n'),
    "env strategy": (None, 'resource "coder_env" "a" {\n agent_id = "x"\n name = "A"\n merge_strategy = "mix"\n}\n'),
    "items twice": (
        None,
        'resource "coder_metadata" "a" {\n resource_id = "x"\n item {\n key = "k"\n}\n item {\n key = "k"\n}\n}\n',
    ),
    "preset without name": (None, _preset('name = ""')),
    "preset description": (None, _preset(f'name = "a"\ndescription = "{"x" * 129}"')),
    "negative prebuilds": (None, _preset('name = "a"\nprebuilds {\n instances = -1\n}')),
    "short ttl": (None, _preset('name = "a"\nprebuilds {\n instances = 1\n expiration_policy {\n ttl = 60\n}\n}')),
    "zone": (
        None,
        _preset(
            'name = "a"\nprebuilds {\n instances = 1\n scheduling {\n timezone = "Mars"\n'
            ' schedule {\n cron = "* 1 * * *"\n instances = 1\n}\n}\n}'
        ),
    ),
    "minute": (
        None,
        _preset(
            'name = "a"\nprebuilds {\n instances = 1\n scheduling {\n timezone = "UTC"\n'
            ' schedule {\n cron = "0 1 * * *"\n instances = 1\n}\n}\n}'
        ),
    ),
    "overlap": (
        None,
        _preset(
            'name = "a"\nprebuilds {\n instances = 1\n scheduling {\n timezone = "UTC"\n'
            ' schedule {\n cron = "* 1-5 * * *"\n instances = 1\n}\n'
            ' schedule {\n cron = "* 3 * * *"\n instances = 1\n}\n}\n}'
        ),
    ),
    "empty external auth": (None, 'data "coder_external_auth" "a" {\n  id = ""\n}\n'),
}

# What the published provider says only when it applies, or in the words of its language's library.
TOLD_OTHERWISE = frozenset({"bad regex", "no monitor", "script without trigger", "script that blocks nothing"})
