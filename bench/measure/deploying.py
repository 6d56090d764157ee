"""Deploying to a running host: time to a component's first response, and the effect of a thousand deployments on other requests."""

import http.client
import json
import os
import threading
import time
from pathlib import Path
from statistics import median

from .processes import Server, whisper_host
from .section import Section, Table

SMALL = Path("target/components/probe-wasi02.wasm")
#: The example in JavaScript, with its interpreter.
LARGE = Path("target/components/word-count-javascript.wasm")
RECORDING = Path("test/audio/garden.flac").read_bytes()
CHANGES = 1000
CHANGES_PER_SECOND = 50
RATE = 200
CLIENTS = 4
ROUTE = "/mine/..."


def unlike_any_before(wasm: bytes) -> bytes:
    """The component with a custom section of random bytes, so that its compiled code is not cached."""
    payload = b"\x05bench" + os.urandom(16)
    return wasm + bytes([0, len(payload)]) + payload


def call(
    server: Server, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path} was answered {answer.status}: {text.decode()}")
    return text


def deploy(admin: Server, component: bytes, fields: dict[str, object]) -> None:
    """Deploys a component with a form that contains its manifest and its binary."""
    trigger = {"http": [{"route": ROUTE, "component": "mine"}]}
    manifest = json.dumps({"trigger": trigger, "component": {"mine": fields}}).encode()
    boundary = b"bench-" + os.urandom(8).hex().encode()
    parts = [("manifest", b"application/json", manifest), ("component", b"application/wasm", component)]
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\nContent-Type: %b\r\n\r\n%b\r\n'
        % (boundary, name.encode(), kind, content)
        for name, kind, content in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    call(admin, "PUT", "/v1/components/mine", body + b"--" + boundary + b"--\r\n", headers)


def until_first_answer(server: Server, admin: Server, wasm: bytes, fields: dict[str, object], body: bytes | None = None) -> float:
    """Seconds from the deployment request to the end of the component's first response."""
    component = unlike_any_before(wasm)
    begun = time.perf_counter()
    deploy(admin, component, fields)
    call(server, "POST" if body else "GET", "/mine/hello", body)
    return time.perf_counter() - begun


class Callers:
    """Clients that call at a constant rate, and check that a valid revision responds."""

    def __init__(self, server: Server):
        self.server, self.stop = server, threading.Event()
        self.served = {0}
        self.calls, self.wrong, self.lock = 0, [], threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(CLIENTS)]

    def run(self, number: int) -> None:
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=30)
        due = time.perf_counter() + number / RATE
        while not self.stop.is_set():
            time.sleep(max(0.0, due - time.perf_counter()))
            due += CLIENTS / RATE
            before = set(self.served)
            try:
                connection.request("GET", "/mine/environment")
                answer = connection.getresponse()
                text = answer.read().decode()
                # The revision served when the request was sent, or one that has replaced it since.
                right = answer.status == 200 and int(text.removeprefix("N=")) in before | set(self.served)
            except (http.client.HTTPException, OSError, ValueError) as error:
                right, text = False, repr(error)
                connection.close()
            with self.lock:
                self.calls += 1
                if not right:
                    self.wrong.append(text)
        connection.close()

    def __enter__(self) -> "Callers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def memory(server: Server) -> int:
    """Private memory of the process, in bytes."""
    for line in Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell how much memory a process has")


def change(admin: Server, wasm: bytes, callers: Callers, changes: int) -> None:
    """Alternates deployments, each with a new number, and rollbacks to the previous one."""
    deployed, serving, begun = [0], 0, time.perf_counter()
    for number in range(1, changes + 1):
        time.sleep(max(0.0, begun + number / CHANGES_PER_SECOND - time.perf_counter()))
        if number % 2:
            deployed.append(number)
            callers.served = {serving, number}
            deploy(admin, wasm, {"environment": {"N": str(number)}})
            serving = number
        else:
            callers.served = {serving, deployed[-2]}
            call(admin, "POST", "/v1/components/mine/rollback")
            serving = deployed[-2]
        callers.served = {serving}


def measure(rounds: int, state: Path) -> Section:
    wasm = SMALL.read_bytes()
    options = ["-f", "bench/load.toml", "--log", "error"]
    with whisper_host(state / "deploying", *options) as server:
        admin = server.admin
        small = [until_first_answer(server, admin, wasm, {}) for _ in range(rounds)]
        deploy(admin, wasm, {"environment": {"N": "0"}})
        with Callers(server) as callers:
            change(admin, wasm, callers, 100)
        time.sleep(2)
        before = memory(server)
        deploy(admin, wasm, {"environment": {"N": "0"}})
        begun = time.perf_counter()
        with Callers(server) as callers:
            change(admin, wasm, callers, CHANGES)
        seconds = time.perf_counter() - begun
        time.sleep(2)
        grown = memory(server) / before
    if callers.wrong:
        raise RuntimeError(f"{len(callers.wrong)} of {callers.calls} requests went wrong, first: {callers.wrong[0]}")
    rows = [[f"{SMALL.name}, {len(wasm) / 1e3:.0f} kB", f"{median(small) * 1e3:.0f} ms"]]
    with_engine = LARGE.read_bytes()
    with whisper_host(state / "deploying-large", "--log", "error") as server:
        audio = {"speech:pipeline/features": {"component": "audio", "inherit_configuration": True}}
        fields = {"ai_models": ["whisper"], "dependencies": audio}
        large = [until_first_answer(server, server.admin, with_engine, fields, RECORDING) for _ in range(2)]
    rows.append([f"{LARGE.name}, {len(with_engine) / 1e6:.0f} MB", f"{median(large):.1f} s"])
    return Section(
        title="Deploying to a running host",
        figures={
            "first_answer_seconds": {"small": median(small), "large": median(large)},
            "changes": CHANGES,
            "changes_per_second": CHANGES / seconds,
            "requests": callers.calls,
            "wrong": 0,
            "memory": grown,
        },
        tables=[
            Table(["component, never seen before", "from its deployment to its first answer"], rows),
            Table(
                ["deployments and rollbacks", "requests meanwhile", "failed or misrouted", "memory after / before"],
                [[f"{CHANGES} in {seconds:.0f} s", f"{callers.calls} at {RATE}/s", "0", f"{grown:.2f}"]],
            ),
        ],
        notes=[
            "The first answer comes after validation, compilation, instantiation and the swap. Memory is the process's own, two "
            "seconds after the last request, compared with what it was after the first hundred changes."
        ],
    )
