"""The servers under test: started on free loopback ports, and always stopped at the end."""

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

#: Built for machines that serve, optimised across crates.
HOST = "target/dist/whisper-host"
INSTRUMENTED = "target/dist/bench"
#: As `make run` builds it.
PLAIN_HOST = "target/release/whisper-host"
#: What it serves when nothing else is said.
MODEL = Path("test/models/synthetic")
WASMTIME = ".tools/wasmtime/bin/wasmtime"

#: Seconds that a server may take to start: with an empty code cache it compiles every component first.
PATIENCE = 120.0


class Server:
    """A running server."""

    def __init__(self, process: subprocess.Popen, url: str):
        self.process = process
        self.url = url
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and kernel, of all threads."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        # The second field, the program's name, may contain spaces.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def environment() -> dict[str, str]:
    """Our environment, without settings of the host."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WHISPER_HOST_")}


@contextmanager
def started(command: list[str], what: str, variables: dict[str, str] | None = None):
    """A process with open standard streams; its log is written to a file, which is shown if it fails to start."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=variables or environment()
        )
        process.log = log
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdin.close()
            process.stdout.close()
            if process.returncode not in (0, -signal.SIGTERM):
                log.seek(0)
                raise RuntimeError(f"{what} failed ({process.returncode}):\n{log.read()}")


def read_line(process: subprocess.Popen, what: str) -> str:
    """The next line of its standard output."""
    line = process.stdout.readline()
    if not line:
        process.log.seek(0)
        raise RuntimeError(f"{what} ended early:\n{process.log.read()}")
    return line.rstrip("\n")


@contextmanager
def whisper_host(state: Path, *options: str, host: str = HOST):
    """`whisper-host up`, ready."""
    command = [host, "up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state-dir", str(state), *options]
    with started(command, host) as process:
        admin = None
        while not (line := read_line(process, host)).startswith("ready on "):
            if line.split()[:1] == ["admin"]:
                admin = line.split()[1]
        server = Server(process, line.split()[2])
        server.admin = Server(process, admin)
        yield server


@contextmanager
def wasmtime_serve(component: str, *options: str):
    """`wasmtime serve`, ready. With `-Scli`, because every component with Rust's standard library imports it."""
    command = [WASMTIME, "serve", "-Scli", "--addr", "127.0.0.1:0", *options, component]
    with started(command, WASMTIME) as process:
        yield Server(process, _announced(process))


def _announced(process: subprocess.Popen) -> str:
    """Waits until wasmtime prints its address on standard error."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        process.log.seek(0)
        for line in process.log:
            if line.startswith("Serving HTTP on ") and line.endswith("\n"):
                return line.split()[3]
        time.sleep(0.05)
    process.log.seek(0)
    raise RuntimeError(f"{WASMTIME} did not start:\n{process.log.read()}")


class Instrumented(Server):
    """The host with its counters exposed (bench/src/main.rs)."""

    def ask(self, command: str) -> dict:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(read_line(self.process, INSTRUMENTED))


@contextmanager
def instrumented(state: Path, model: Path = MODEL, precision: str = "auto", threads: int = os.cpu_count() or 1):
    state.mkdir(parents=True, exist_ok=True)
    with started([INSTRUMENTED, str(state), str(model), precision, str(threads)], INSTRUMENTED) as process:
        yield Instrumented(process, json.loads(read_line(process, INSTRUMENTED))["url"])
