"""What reaches a log, and what must not. Each set-up is the process's own, so it is tried in a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SERVER = "from warren import log; log.configure(log.LogSettings(json=sys.argv[1] + '/log.json'))"
AGENT = """
from pathlib import Path
from warren.agent import log_files
log_files.set_up(Path(sys.argv[1]), human='/dev/stderr', json_path=sys.argv[1] + '/log.json', verbose=True)
"""
COMMAND = "from warren.cli.connect import quiet_logs; quiet_logs(verbose=True)"
CRASH = """
import structlog
def connect(word):
    password = word * 2
    return len(password) / 0
try:
    connect('hunter2')
except ZeroDivisionError:
    structlog.get_logger().exception('connection.crashed')
"""
UVICORN = """
import logging
logger = logging.getLogger('uvicorn.error')
logger.error('ASGI callable returned without completing handshake.')
logger.error('ASGI callable returned without completing response.')
"""


def logged(program: str, folder: Path) -> str:
    """Run a program; return all that it logged, wherever to."""
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}", str(folder)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return "\n".join([ran.stdout, ran.stderr, *(path.read_text() for path in sorted(folder.iterdir()))])


@pytest.mark.parametrize("set_up", [SERVER, AGENT, COMMAND], ids=["server", "agent", "command"])
def test_local_variables_of_a_crash_stay_out_of_the_log(set_up: str, tmp_path: Path) -> None:
    text = logged(f"{set_up}\n{CRASH}", tmp_path)
    assert "connection.crashed" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "in connect" in text
    assert "hunter2hunter2" not in text
    assert "hunter2" not in text.replace("connect('hunter2')", "")  # a line of the source, as every traceback has


def test_the_refusal_of_a_websocket_is_no_error_and_the_rest_is(tmp_path: Path) -> None:
    text = logged(f"{SERVER}\n{UVICORN}", tmp_path)
    assert "handshake" not in text
    assert "without completing response" in text


def test_stackdriver_finds_severity_time_and_message(tmp_path: Path) -> None:
    set_up = SERVER.replace("json=", "human='', stackdriver=")
    logged(f"{set_up}\nimport structlog; structlog.get_logger().warning('disk.full', folder='/x')", tmp_path)
    line = json.loads((tmp_path / "log.json").read_text())
    assert line.pop("time").endswith("Z")
    assert line == {"severity": "WARNING", "message": "disk.full", "folder": "/x"}
