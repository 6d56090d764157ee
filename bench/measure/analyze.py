"""`POST /analyze`: response time relative to the audio's length, and its breakdown by stage."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from .processes import Instrumented, Server, instrumented, whisper_host
from .section import Section, Table

AUDIO = Path("test/audio")
RECORDINGS = ["story.mp3", "numbers.wav", "garden.flac", "journey.ogg", "home.m4a"]
STAGES = ["decode", "log-mel", "encoder", "decoder"]
#: Requests for each recording in a round: they are short.
REQUESTS = 4
BOUNDARY = "fe1cb0b7a3f54d6c"


def form(name: str) -> bytes:
    """The request body sent by `curl -F file=@NAME`."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + (AUDIO / name).read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def request(server: Server, body: bytes) -> float:
    """Seconds from opening the connection to the end of the response, as for a one-time client."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection(server.host, server.port, timeout=300)
    connection.request("POST", "/analyze", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    response = connection.getresponse()
    answer = response.read()
    seconds = time.perf_counter() - begun
    connection.close()
    if response.status != 200 or not json.loads(answer)["transcription"]:
        raise RuntimeError(f"/analyze answered {response.status}: {answer.decode(errors='replace')}")
    return seconds


def together(server: Server, bodies: list[bytes]) -> float:
    """Seconds until all responses have arrived, for requests sent at the same time."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(bodies)) as clients:
        list(clients.map(lambda body: request(server, body), bodies))
    return time.perf_counter() - begun


def divided(server: Instrumented, name: str, body: bytes) -> dict[str, float]:
    """Seconds of one request, and of each stage; the rest is the host."""
    before = server.ask("counters")
    latency = request(server, body)
    after = server.ask("counters")
    features, decode = (
        median(server.ask(f"{command} {AUDIO / name}")["seconds"] for _ in range(3)) for command in ("features", "decode")
    )
    stages = {
        "decode": decode,
        "log-mel": features - decode,
        "encoder": after["encoder"] - before["encoder"],
        "decoder": after["decoder"] - before["decoder"],
    }
    return {**stages, "latency": latency, "windows": after["windows"] - before["windows"]}


def measure(rounds: int, state: Path) -> Section:
    bodies = {name: form(name) for name in RECORDINGS}
    alone: dict[str, list[float]] = {name: [] for name in RECORDINGS}
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in RECORDINGS}
    at_once: list[float] = []
    with whisper_host(state / "host") as host, instrumented(state / "instrumented") as open_host:
        for name, body in bodies.items():
            request(host, body)
            divided(open_host, name, body)
        lengths = {name: open_host.ask(f"features {AUDIO / name}")["duration"] for name in RECORDINGS}
        for _ in range(rounds * REQUESTS):
            for name, body in bodies.items():
                alone[name].append(request(host, body))
                parts[name].append(divided(open_host, name, body))
            at_once.append(together(host, list(bodies.values())))
    return report(lengths, alone, at_once, parts)


def cell(share: dict[str, float], seconds: dict[str, float], stage: str) -> str:
    return f"{share[stage]:.1%} ({seconds[stage] * 1e3:.1f} ms)" if stage in share else "overlapped"


def report(
    lengths: dict[str, float],
    alone: dict[str, list[float]],
    at_once: list[float],
    parts: dict[str, list[dict[str, float]]],
) -> Section:
    total = sum(lengths.values())
    latency = {name: median(seconds) for name, seconds in alone.items()}
    speed = {name: {"audio": lengths[name], "latency": latency[name]} for name in RECORDINGS}
    speed["one after the other"] = {"audio": total, "latency": sum(latency.values())}
    speed["all at once"] = {"audio": total, "latency": median(at_once)}
    for row in speed.values():
        row["real_time_factor"] = row["latency"] / row["audio"]

    keys = [*STAGES, "latency", "windows"]
    medians = {name: {key: median(part[key] for part in parts[name]) for key in keys} for name in RECORDINGS}
    # In longer recordings the stages overlap: the host's overhead cannot be separated from the time the overlap saves.
    single = [name for name in RECORDINGS if medians[name]["windows"] == 1]
    medians["those of one window"] = {key: sum(medians[name][key] for name in single) for key in keys}
    for name in [*single, "those of one window"]:
        medians[name]["host"] = medians[name]["latency"] - sum(medians[name][stage] for stage in STAGES)
    shares = {
        name: {stage: row[stage] / row["latency"] for stage in [*STAGES, "host"] if stage in row}
        for name, row in medians.items()
    }

    return Section(
        title="Speed of `/analyze`",
        figures={"speed": speed, "seconds": medians, "shares": shares},
        tables=[
            Table(
                ["recording", "audio", "latency", "real-time factor"],
                [
                    [name, f"{row['audio']:.1f} s", f"{row['latency'] * 1e3:.0f} ms", f"{row['real_time_factor']:.4f}"]
                    for name, row in speed.items()
                ],
            ),
            Table(
                ["recording", "audio decoding", "log-mel", "encoder", "decoder", "host and all else"],
                [
                    [name, *(cell(share, medians[name], stage) for stage in [*STAGES, "host"])]
                    for name, share in shares.items()
                ],
            ),
        ],
        notes=[
            "Latency is a client's, over HTTP on the loopback interface, a new connection for each request, one request "
            "at a time; the real-time factor is latency over the audio's length.",
            "Shares are of the latency of one request, by medians. Encoder and decoder seconds are the engine's own counters around that "
            "very request. Audio decoding (with resampling) and log-mel are timed apart, in the same process, right after it: "
            "`audio.wasm` from bytes to frames, and the same code without log-mel. The last column is what remains of the "
            "latency: HTTP, the form, instantiation, calls between components, scheduling, the point written to the store.",
            "A recording longer than the model's window is decoded while the model already works: its shares add up to more "
            "than they take, and nothing can be said of the rest.",
        ],
    )
