"""From an empty machine to a shell in a workspace, and what each step took.

`up` starts a server in the background with its state in `DEMO_DIR`, creates the first user, pushes the starter
template `local`, creates workspace `dev`, and runs, pings and measures it; a second run finds all that and is quick.
`stop` ends everything that `up` started: workspaces first, so that their agents go, then the server.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WORKSPACE = "dev"
TEMPLATE = "local"
USERNAME = "admin"
EMAIL = "admin@example.com"
START_SECONDS = 60
CHECKOUT = Path(__file__).resolve().parent.parent


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Place:
    """Where the demo keeps its state."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def pid_file(self) -> Path:
        return self.folder / "server.pid"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    def environment(self) -> dict[str, str]:
        """The environment of every command: this checkout's `warren`, this demo's configuration."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WARREN_", "CODER_"))}
        return clean | {
            "PATH": f"{CHECKOUT / '.venv/bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "WARREN_CONFIG_DIR": str(self.config),
            "WARREN_CACHE_DIRECTORY": str(self.folder / "cache"),
        }


@dataclass
class Report:
    """What was done and how long it took."""

    lines: list[tuple[str, float, str]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[str], None]]:
        """Time a step; the value takes a short remark about its outcome."""
        remarks: list[str] = []
        started = time.monotonic()
        print(f"==> {what}", flush=True)
        yield remarks.append
        self.lines.append((what, time.monotonic() - started, "; ".join(remarks)))

    def page(self) -> str:
        """Lay out the steps, one a line."""
        width = max(len(what) for what, _, _ in self.lines)
        rows = [f"  {what:<{width}}  {seconds:6.2f} s  {remark}".rstrip() for what, seconds, remark in self.lines]
        total = sum(seconds for _, seconds, _ in self.lines)
        return "\n".join([*rows, f"  {'all':<{width}}  {total:6.2f} s"])


def warren(place: Place, *arguments: str, check: bool = True, seconds: float = 180) -> str:
    """Run a command of the command line and return its output."""
    done = subprocess.run(
        ["warren", *arguments],
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if check and done.returncode != 0:
        raise DemoError(f"`warren {' '.join(arguments)}` failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def healthy(place: Place) -> bool:
    """Say whether a Warren server answers there."""
    try:
        with urllib.request.urlopen(f"{place.url}/api/v2/buildinfo", timeout=2) as answer:
            return "version" in json.load(answer)
    except (OSError, ValueError):
        return False


def server_pid(place: Place) -> int | None:
    """Return the process of our server, when it still runs."""
    try:
        pid = int(place.pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"server" in command and b"warren" in command else None


def start_server(place: Place, say: Callable[[str], None]) -> None:
    """Start the server unless it runs."""
    if server_pid(place) is not None and healthy(place):
        say("it was running")
        return
    require_free_port(place)
    place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with place.log_file.open("ab") as log:
        process = subprocess.Popen(
            ["warren", "server", "--http-address", f"127.0.0.1:{place.port}", "--access-url", place.url],
            env=place.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=place.folder,
        )
    place.pid_file.write_text(str(process.pid))
    deadline = time.monotonic() + START_SECONDS
    while not healthy(place):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(place.log_file.read_text(errors="replace").splitlines()[-20:])
            raise DemoError(f"the server did not start; the end of {place.log_file}:\n{tail}")
        time.sleep(0.05)
    say(place.url)


def require_free_port(place: Place) -> None:
    """Refuse a port that something else uses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", place.port))
        except OSError as error:
            raise DemoError(f"port {place.port} is in use; pick another: make demo PORT={place.port + 1}") from error


def sign_in(place: Place, say: Callable[[str], None]) -> None:
    """Create the first user, or sign in as it."""
    if warren(place, "whoami", check=False):
        say(f"signed in as {USERNAME}")
        return
    if not place.password_file.exists():
        place.password_file.touch(mode=0o600)
        place.password_file.write_text(secrets.token_urlsafe(18))
    password = place.password_file.read_text()
    try:
        urllib.request.urlopen(f"{place.url}/api/v2/users/first", timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        warren(
            place,
            "login",
            place.url,
            "--first-user-username",
            USERNAME,
            "--first-user-email",
            EMAIL,
            "--first-user-password",
            password,
            "--first-user-trial=false",
        )
        say(f"{USERNAME}, password in {place.password_file}")
        return
    body = json.dumps({"email": EMAIL, "password": password}).encode()
    request = urllib.request.Request(
        f"{place.url}/api/v2/users/login", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        token = json.load(answer)["session_token"]
    warren(place, "login", place.url, "--token", token)
    say(f"signed in as {USERNAME}")


def push_template(place: Place, say: Callable[[str], None]) -> None:
    """Push the starter template unless it is there."""
    templates = json.loads(warren(place, "templates", "list", "--output", "json") or "[]")
    if any(TEMPLATE in (entry.get("name"), entry.get("Template", {}).get("name")) for entry in templates):
        say("it was there")
        return
    source = place.folder / "template"
    shutil.rmtree(source, ignore_errors=True)
    warren(place, "templates", "init", "--id", TEMPLATE, str(source))
    homes = f"data_dir={place.folder / 'workspaces'}"
    warren(place, "templates", "push", TEMPLATE, "--directory", str(source), "--variable", homes, "--yes")


def create_workspace(place: Place, say: Callable[[str], None]) -> None:
    """Create the workspace, or start it."""
    found = [
        entry for entry in json.loads(warren(place, "list", "--output", "json") or "[]") if entry["name"] == WORKSPACE
    ]
    if not found:
        warren(place, "create", WORKSPACE, "--template", TEMPLATE, "--yes")
    elif found[0]["latest_build"]["status"] != "running":
        warren(place, "start", WORKSPACE, "--yes")
        say("it was there, and was started")
    else:
        say("it was running")


def run_command(place: Place, say: Callable[[str], None]) -> None:
    """Run a command in the workspace over the tunnel."""
    output = warren(place, "ssh", WORKSPACE, "--", "echo hello from $(hostname), in $PWD").strip()
    if not output.startswith("hello from"):
        raise DemoError(f"the command in the workspace printed {output!r}")
    say(output)


def ping(place: Place, say: Callable[[str], None]) -> None:
    """Ping the agent."""
    lines = [line for line in warren(place, "ping", WORKSPACE, "-n", "3").splitlines() if line.startswith("pong")]
    if not lines:
        raise DemoError("the workspace did not answer a ping")
    say(lines[-1])


def speedtest(place: Place, say: Callable[[str], None]) -> None:
    """Measure the tunnel for a moment."""
    result = json.loads(warren(place, "speedtest", WORKSPACE, "--time", "1s", "--direct", "--output", "json"))
    say(f"{result['overall']['throughput_mbits']:.0f} Mbit/s down")


def write_env(place: Place) -> None:
    """Write the file that makes a shell use this demo."""
    place.env_file.write_text(
        f"# Use this demo from a shell: . {place.env_file}\n"
        f"export PATH={shell_quote(str(CHECKOUT / '.venv/bin'))}:$PATH\n"
        f"export WARREN_CONFIG_DIR={shell_quote(str(place.config))}\n"
    )


def shell_quote(text: str) -> str:
    """Quote for a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def up(place: Place) -> None:
    """Run the main job."""
    report = Report()
    steps: list[tuple[str, Callable[[Place, Callable[[str], None]], None]]] = [
        ("start the server", start_server),
        ("sign in", sign_in),
        (f"push template {TEMPLATE}", push_template),
        (f"create workspace {WORKSPACE}", create_workspace),
        ("run a command in it", run_command),
        ("ping it", ping),
        ("measure the tunnel", speedtest),
    ]
    for what, step in steps:
        with report.step(what) as say:
            step(place, say)
    write_env(place)
    place.state_file.write_text(json.dumps({"port": place.port}))
    folder = place.folder
    print(
        f"\nWarren runs at {place.url}, with workspace `{WORKSPACE}` of template `{TEMPLATE}`.\n\n{report.page()}\n\n"
        f"Try next, in a shell:\n"
        f"  . {relative(place.env_file)}                    # puts `warren` on the PATH, logged in\n"
        f"  warren ssh {WORKSPACE}                     # a shell in the workspace\n"
        f"  warren list                        # your workspaces\n"
        f"  warren ping -v {WORKSPACE}                 # which way packets go, and why\n"
        f"  warren config-ssh --yes && ssh coder.{WORKSPACE}   # the same with stock OpenSSH, scp, editors\n"
        f"  warren port-forward {WORKSPACE} --tcp 18080:8080 # its port 8080, here 18080\n"
        f"  warren stop {WORKSPACE} --yes; warren start {WORKSPACE} --yes\n"
        f"  make demo-stop                     # stop all of it (state stays in {relative(folder)}/)\n"
    )


def relative(path: Path) -> str:
    """Show a path as short as it can be typed from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def stop(place: Place) -> None:
    """Stop workspaces, then the server."""
    pid = server_pid(place)
    if pid is None:
        place.pid_file.unlink(missing_ok=True)
        stop_leftovers(place)
        print("the demo is not running")
        return
    if healthy(place):
        for workspace in json.loads(warren(place, "list", "--all", "--output", "json", check=False) or "[]"):
            if workspace["latest_build"]["status"] not in ("stopped", "deleted"):
                print(f"==> stop workspace {workspace['name']}", flush=True)
                warren(place, "stop", f"{workspace['owner_name']}/{workspace['name']}", "--yes", check=False)
    print("==> stop the server", flush=True)
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if server_pid(place) is not None:
        os.kill(pid, signal.SIGKILL)
    place.pid_file.unlink(missing_ok=True)
    stop_leftovers(place)
    print("stopped; the state is still in", relative(place.folder))


def stop_leftovers(place: Place) -> None:
    """End agents that a killed server left behind."""
    found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_our_agent(pid, place)]
    for pid in found:
        with suppress_missing():
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while any(is_our_agent(pid, place) for pid in found) and time.monotonic() < deadline:
        time.sleep(0.05)


def is_our_agent(pid: int, place: Place) -> bool:
    """Say whether a process is a workspace agent of this demo's server."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    urls = {f"CODER_AGENT_URL={place.url}{end}".encode() for end in ("", "/")}
    return b"agent" in words and not urls.isdisjoint(environment)


@contextmanager
def suppress_missing() -> Iterator[None]:
    """Ignore that a process ended by itself."""
    try:
        yield
    except ProcessLookupError:
        return


def main(arguments: list[str]) -> int:
    """Run `up` or `stop`."""
    if arguments not in (["up"], ["stop"]):
        print("usage: demo.py up|stop", file=sys.stderr)
        return 2
    folder = Path(os.environ.get("DEMO_DIR") or ".demo").resolve()
    port = int(os.environ.get("PORT") or "3000")
    state = folder / "state.json"
    if arguments == ["stop"] and state.exists():
        port = json.loads(state.read_text())["port"]
    place = Place(folder, port)
    # All requests are to this machine, where `urllib` would still take the proxy of the environment.
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    try:
        up(place) if arguments == ["up"] else stop(place)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
