"""99th percentile latency of a hundred concurrent well-behaved requests, with and without a hostile handler running."""

import http.client
import re
import subprocess
import threading
from pathlib import Path
from statistics import median

from .processes import Server, whisper_host
from .section import Section, Table, ratio

CONNECTIONS = 100
SECONDS = 3
#: Path below /hostile of load that the probe can make, and what it is.
HOSTILE = {
    "spin": "an endless loop",
    "allocate": "endless allocation",
    "stream-forever": "an endless answer",
    "ignore-body": "never reading its request",
    "sleep": "sleeping for ever",
    "recurse": "endless recursion",
    "trap-midway": "a trap in the middle of its answer",
    "leak-resources": "filling its table of resources",
    "many-headers": "a million headers",
    "fetch-flood": "ten thousand outbound requests",
}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def innocent(server: Server) -> float:
    """99th percentile in seconds; every request must get a response."""
    output = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", server.url + "/innocent/hello"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    percentile = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if not percentile or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"innocent requests were lost:\n{output}")
    return float(percentile[1]) * UNITS[percentile[2]]


def misbehave(server: Server, kind: str, stop: threading.Event) -> None:
    """Sends hostile requests, one after the other."""
    body = b"x" * 1_000_000 if kind == "ignore-body" else None
    while not stop.is_set():
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        try:
            connection.request("POST" if body else "GET", f"/hostile/{kind}", body)
            connection.getresponse().read()
        except (http.client.HTTPException, OSError):
            pass  # Some handlers abort their response on purpose.
        finally:
            connection.close()


def measure(rounds: int, state: Path) -> Section:
    figures, rows = {}, []
    with whisper_host(state / "hostile", "-f", "bench/hostile.toml", "--log", "error") as server:
        innocent(server)
        for kind, what in HOSTILE.items():
            alone, beside = [], []
            for _ in range(rounds):
                alone.append(innocent(server))
                stop = threading.Event()
                other = threading.Thread(target=misbehave, args=(server, kind, stop))
                other.start()
                try:
                    beside.append(innocent(server))
                finally:
                    stop.set()
                    other.join()
            slower = ratio(beside, alone)
            figures[kind] = {"alone": median(alone), "beside": median(beside), "ratio": slower.figures()}
            rows.append([what, f"{median(alone) * 1e3:.1f} ms", f"{median(beside) * 1e3:.1f} ms", str(slower)])
    return Section(
        title="Innocent requests beside a hostile handler",
        figures=figures,
        tables=[Table(["the other handler", "99th percentile alone", "beside it", "ratio"], rows)],
        notes=[
            f"`wrk -t1 -c{CONNECTIONS} -d{SECONDS}s` on a handler that does nothing, a fresh instance for each request, while one "
            "client calls the other handler without pause; load generator and server share the processor's cores. "
            "Not one innocent request was lost: the run fails otherwise."
        ],
    )
