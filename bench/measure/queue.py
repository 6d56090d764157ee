"""What NATS adds to a request, two workers next to one, and the memory of a host that only creates jobs."""

import asyncio
import http.client
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import nats

from .processes import MODEL, PATIENCE, Server, started, whisper_host
from .section import Section, Table, ratio

NATS = Path(".tools/servers/nats-server")
AUDIO = Path("test/audio/garden.flac")
#: Bars: seconds, a ratio, bytes.
ADDED, TWO_TO_ONE, MEMORY = 5e-3, 0.9, 200_000_000
#: Requests of each kind in one round.
REQUESTS = 50
#: Jobs for which workers are timed.
JOBS = 40
#: Jobs that are only created, and how many clients create them.
PUBLISHED, CLIENTS = 10_000, 8


@contextmanager
def nats_server(folder: Path):
    """A NATS server with JetStream, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(NATS), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]
    with started(command, str(NATS)) as process:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield Server(process, f"nats://127.0.0.1:{port}")


def post(connection: http.client.HTTPConnection, path: str, body: bytes, expected: int) -> float:
    """Seconds that a request takes."""
    begin = time.perf_counter()
    connection.request("POST", path, body)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != expected:
        raise RuntimeError(f"{path} answered {answer.status}: {text!r}")
    return time.perf_counter() - begin


async def ask(client, body: bytes) -> float:
    """Seconds that a message takes."""
    begin = time.perf_counter()
    answer = await client.request("audio.process", body, timeout=PATIENCE)
    if "transcription" not in json.loads(answer.data):
        raise RuntimeError(f"audio.process answered {answer.data!r}")
    return time.perf_counter() - begin


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.host, server.port)


async def added(rounds: int, state: Path) -> dict[str, list[float]]:
    """Seconds that requests take, in turns: over HTTP, as a message, handed over to a worker."""
    body = AUDIO.read_bytes()
    with ExitStack() as stack:
        server = stack.enter_context(nats_server(state / "nats"))
        options = ["--nats", server.url, "--log", "warn", "--model", str(MODEL)]
        # Two instances of one program: the machine is shared by whoever has something to do.
        worker = connect(stack.enter_context(whisper_host(state / "all", *options)))
        front = connect(stack.enter_context(whisper_host(state / "http", *options, "--role", "http")))
        client = await nats.connect(server.url)
        seconds = {"http": [], "message": [], "handed over": []}
        for _ in range(rounds * REQUESTS):
            seconds["http"].append(post(worker, "/analyze", body, 200))
            seconds["message"].append(await ask(client, body))
            seconds["handed over"].append(post(front, "/analyze", body, 200))
        await client.close()
    return seconds


async def finished(client, since: float) -> float:
    """Waits until no job is left. Returns the seconds since then."""
    stream = client.jetstream()
    while (await stream.stream_info("whisper-jobs")).state.messages:
        await asyncio.sleep(0.02)
    return time.perf_counter() - since


async def workers(rounds: int, state: Path) -> tuple[list[float], list[float]]:
    """Seconds for the jobs: with one worker that has all threads, and with two that have half of them each."""
    body, threads = AUDIO.read_bytes(), os.cpu_count() or 1
    times: dict[int, list[float]] = {1: [], 2: []}
    with nats_server(state / "nats") as server:
        client = await nats.connect(server.url)
        options = ["--nats", server.url, "--log", "warn", "--model", "tiny.en"]
        with whisper_host(state / "http", *options, "--role", "http") as front:
            connection = connect(front)
            for round_ in range(rounds):
                for count in (1, 2) if round_ % 2 else (2, 1):
                    with ExitStack() as stack:
                        share = ["--role", "worker", "--inference-threads", str(max(1, threads // count))]
                        for index in range(count):
                            stack.enter_context(whisper_host(state / f"worker-{index}", *options, *share))
                        for _ in range(2 * count):
                            post(connection, "/jobs", body, 202)
                        await finished(client, 0)
                        begin = time.perf_counter()
                        for _ in range(JOBS):
                            post(connection, "/jobs", body, 202)
                        times[count].append(await finished(client, begin))
        await client.close()
    return times[1], times[2]


def publish(state: Path) -> tuple[float, int]:
    """Jobs per second that a host without workers takes, and its peak memory in bytes."""
    body = AUDIO.read_bytes()
    with nats_server(state / "nats") as server:
        options = ["--nats", server.url, "--log", "warn", "--role", "http"]
        with whisper_host(state / "http", *options) as front:

            def some(count: int) -> None:
                connection = connect(front)
                for _ in range(count):
                    post(connection, "/jobs", body, 202)

            begin = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(some, [PUBLISHED // CLIENTS] * CLIENTS))
            seconds = time.perf_counter() - begin
            status = Path(f"/proc/{front.process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return PUBLISHED / seconds, int(peak.split()[1]) * 1024


def measure(rounds: int, state: Path) -> Section:
    folders = [state / "queue" / name for name in ("added", "workers", "publish")]
    for folder in folders:
        folder.mkdir(parents=True)
    seconds = asyncio.run(added(rounds, folders[0]))
    one, two = asyncio.run(workers(rounds, folders[1]))
    rate, memory = publish(folders[2])
    extra = {
        name: median(b - a for a, b in zip(seconds["http"], seconds[name], strict=True))
        for name in ("message", "handed over")
    }
    share = ratio(one, two)
    figures = {
        "request_seconds": {name: median(values) for name, values in seconds.items()},
        "added_seconds": extra,
        "two_workers_to_one": share.figures(),
        "jobs_created_per_second": rate,
        "http_host_peak_bytes": memory,
    }
    met = {True: "met", False: "missed"}
    rows = [
        [f"a message takes longer than a request of {median(seconds['http']) * 1e3:.1f} ms by",
         f"{extra['message'] * 1e3:.1f} ms", f"< {ADDED * 1e3:.0f} ms", met[extra["message"] < ADDED]],
        ["a request that is handed over to a worker takes longer by",
         f"{extra['handed over'] * 1e3:.1f} ms", f"< {ADDED * 1e3:.0f} ms", met[extra["handed over"] < ADDED]],
        ["throughput of two workers with half the threads, to that of one with all",
         str(share), f">= {TWO_TO_ONE}", met[share.median >= TWO_TO_ONE]],
        [f"peak memory of an `http` host that creates {PUBLISHED:,} jobs, {rate:.0f} per second",
         f"{memory / 1e6:.0f} MB", f"< {MEMORY / 1e6:.0f} MB", met[memory < MEMORY]],
    ]  # fmt: skip
    return Section(
        title="The queue",
        figures=figures,
        tables=[Table(["what", "measured", "bar", ""], rows)],
        notes=[
            f"The NATS server and all hosts run on this machine. A request is `POST /analyze` with {AUDIO.name} "
            f"({AUDIO.stat().st_size // 1000} kB), with a model of random weights whose transcription takes little time; the three kinds "
            f"take turns, {REQUESTS} of each in a round. A request that is handed over is stored in JetStream, taken by a worker, and "
            f"its response stored there, too. The workers transcribe {JOBS} recordings with `tiny.en`. The jobs that are only "
            f"created come from {CLIENTS} clients.",
        ],
    )
