"""Recording calls: the store of points, killed while it writes, next to InfluxDB."""

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from .processes import INSTRUMENTED, PATIENCE, Server, environment, read_line, started
from .section import Section, Table, ratio

INFLUXD = Path(".tools/servers/influxd")
#: Bars.
RATE, LATENCY = 20_000, 1e-3
WRITERS = 256
SECONDS = 5
#: Writes one after the other.
SINGLE = 1000
LINE = "calls,trigger=http,status=ok,outcome=ok,model=whisper,language=en latency=0.25,audio_length=11.5"


def ask(process: subprocess.Popen, command: str) -> dict:
    process.stdin.write(command + "\n")
    process.stdin.flush()
    return json.loads(read_line(process, INSTRUMENTED))


def flood(file: Path) -> tuple[float, int]:
    """Points per second, and how many of the acknowledged ones are missing after the process was killed."""
    with subprocess.Popen(
        [INSTRUMENTED, "store", str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        last = ask(process, f"flood {WRITERS}")
        while last["seconds"] < SECONDS:
            last = json.loads(read_line(process, INSTRUMENTED))
        process.send_signal(signal.SIGKILL)
        # What it reported until it died.
        for line in process.stdout:
            if line.endswith("\n"):
                last = json.loads(line)
    with started([INSTRUMENTED, "store", str(file)], INSTRUMENTED) as process:
        missing = ask(process, "missing " + " ".join(map(str, last["acknowledged"])))["missing"]
        process.stdin.close()
        process.wait()
    return sum(last["acknowledged"]) / last["seconds"], missing


def single(file: Path) -> list[float]:
    """Seconds of writes one after the other."""
    with started([INSTRUMENTED, "store", str(file)], INSTRUMENTED) as process:
        seconds = ask(process, f"record {SINGLE}")["seconds"]
        process.stdin.close()
        process.wait()
    return seconds


@contextmanager
def influxdb(folder: Path, port: int):
    """InfluxDB 1, which writes each batch to disk before it answers, as the store does. Ready, with a database."""
    settings = {
        "INFLUXDB_REPORTING_DISABLED": "true",
        "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{port + 1}",
        "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
        "INFLUXDB_HTTP_LOG_ENABLED": "false",
        "INFLUXDB_META_DIR": str(folder / "meta"),
        "INFLUXDB_DATA_DIR": str(folder / "data"),
        "INFLUXDB_DATA_WAL_DIR": str(folder / "wal"),
        "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false",
        "INFLUXDB_MONITOR_STORE_ENABLED": "false",
    }
    with started([str(INFLUXD)], str(INFLUXD), environment() | settings) as process:
        server = Server(process, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + PATIENCE
        create = urllib.parse.urlencode({"q": "CREATE DATABASE bench"}).encode()
        while True:
            try:
                urllib.request.urlopen(f"{server.url}/query", create).read()
                break
            except urllib.error.URLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield server


def written(server: Server, script: Path) -> float:
    """Points per second that the server acknowledges, each in a request of its own."""
    output = subprocess.run(
        ["wrk", "-t1", f"-c{WRITERS}", f"-d{SECONDS}s", "-s", str(script), f"{server.url}/write?db=bench&precision=u"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"writes to InfluxDB met errors:\n{output}")
    acknowledged = int(re.search(r"(\d+) requests in", output)[1])
    query = urllib.parse.urlencode({"db": "bench", "q": "SELECT COUNT(latency) FROM calls"})
    with urllib.request.urlopen(f"{server.url}/query?{query}") as answer:
        stored = json.load(answer)["results"][0]["series"][0]["values"][0][1]
    if stored < acknowledged:
        raise RuntimeError(f"InfluxDB has {stored} of {acknowledged} points")
    return float(output.split("Requests/sec:")[1].split()[0])


def measure(rounds: int, state: Path) -> Section:
    folder = state / "storing"
    folder.mkdir()
    script = folder / "write.lua"
    # A time of its own for each point: InfluxDB keeps one for each series and time. Lua's numbers are exact to microseconds only.
    script.write_text(
        "wrk.method = 'POST'\nlocal n = 1700000000000000\n"
        f"request = function()\n  n = n + 1\n  return wrk.format(nil, nil, nil, '{LINE} ' .. string.format('%d', n))\nend\n"
    )
    rates, missing, seconds, theirs = [], 0, [], []
    for round_ in range(rounds):
        rate, lost = flood(folder / f"flood-{round_}.db")
        rates.append(rate)
        missing += lost
        seconds += single(folder / f"single-{round_}.db")
        if INFLUXD.exists():
            with influxdb(folder / f"influx-{round_}", 28086) as server:
                theirs.append(written(server, script))
    seconds.sort()
    half, tail = median(seconds), seconds[int(len(seconds) * 0.99)]
    figures = {
        "points_per_second": median(rates),
        "missing_after_kill": missing,
        "write_seconds": {"median": half, "p99": tail},
    }
    next_to, comparison = "not here", ""
    if theirs:
        times = ratio(rates, theirs)
        figures |= {"influxdb_points_per_second": median(theirs), "ratio": times.figures()}
        next_to, comparison = f"{median(theirs):.0f}", str(times)
    bars = [
        name
        for name, met in [("rate", median(rates) >= RATE), ("missing", missing == 0), ("latency", half < LATENCY)]
        if not met
    ]
    return Section(
        title="Recording calls, next to InfluxDB",
        figures=figures,
        tables=[
            Table(
                ["points/s", "InfluxDB's", "ratio", "missing after kill -9", "one write: median, 99th percentile", "bars"],
                [
                    [
                        f"{median(rates):.0f}",
                        next_to,
                        comparison,
                        str(missing),
                        f"{half * 1e6:.0f} µs, {tail * 1e6:.0f} µs",
                        "missed: " + ", ".join(bars) if bars else "met",
                    ]
                ],
            )
        ],
        notes=[
            f"{WRITERS} writers for {SECONDS} s, each with one point at a time, which it writes after the one before is acknowledged; "
            "then the process is killed, and of each writer all points are looked for that it had reported as acknowledged. The system "
            "survives, so this does not test what a loss of power does. A point has two fields and five tags, as the record of "
            "a call has. InfluxDB (1.6, Debian's) gets the same points in line protocol over HTTP, one per request, from `wrk` with as "
            "many connections; it, too, acknowledges what is on disk. The store is a library in the host's process: what is compared is "
            "what recording a call costs with one or the other.",
            f"Bars: {RATE:,} points/s, none missing, one write in less than {LATENCY * 1e3:.0f} ms at the median. A call is recorded by "
            "one write.",
        ],
    )
