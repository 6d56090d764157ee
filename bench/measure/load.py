"""A no-op handler: requests per second, compared with `wasmtime serve` of the same version."""

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .processes import PLAIN_HOST, Server, wasmtime_serve, whisper_host
from .section import Section, Table, ratio

CONNECTIONS = 16
REUSE = 128
#: Route of load.toml: the handler's file, requests that one instance serves.
CASES = {
    "wasi02-fresh": ("probe-wasi02", 1),
    "wasi02-reused": ("probe-wasi02", REUSE),
    "wasi03-fresh": ("probe-wasi03", 1),
    "wasi03-reused": ("probe-wasi03", REUSE),
}
WARM_UP = 1
SECONDS = 4


def wrk(server: Server, path: str, seconds: int) -> tuple[float, float]:
    """Requests per second, and the server's CPU seconds per request."""
    before = server.cpu_seconds()
    output = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", server.url + path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    used = server.cpu_seconds() - before
    requests = re.search(r"(\d+) requests in ", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not requests or not rate or int(requests[1]) == 0 or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"the load on {server.url}{path} met errors:\n{output}")
    return float(rate[1]), used / int(requests[1])


def measure(rounds: int, state: Path) -> Section:
    runs: dict[str, dict[str, list[tuple[float, float]]]] = {}
    with ExitStack() as stack:
        manifest = ["-f", "bench/load.toml"]
        quiet = stack.enter_context(whisper_host(state / "load", *manifest, "--log", "warn"))
        plain = stack.enter_context(whisper_host(state / "load-plain", *manifest, "--log", "warn", host=PLAIN_HOST))
        logging = stack.enter_context(whisper_host(state / "load-logging", *manifest))
        for case, (component, reuse) in CASES.items():
            peer = stack.enter_context(
                wasmtime_serve(
                    f"target/components/{component}.wasm",
                    f"--max-instance-reuse-count={reuse}",
                    "--max-instance-concurrent-reuse-count=1",
                )
            )
            servers = {"quiet": quiet, "peer": peer, "plain": plain, "logging": logging}
            path = f"/{case}/hello"
            for server in servers.values():
                wrk(server, path, WARM_UP)
            runs[case] = {who: [] for who in servers}
            for _ in range(rounds):
                for who, server in servers.items():
                    runs[case][who].append(wrk(server, path, SECONDS))
    return report(runs)


def report(runs: dict[str, dict[str, list[tuple[float, float]]]]) -> Section:
    figures, rows = {}, []
    for case, who in runs.items():
        rates = {name: [rate for rate, _ in values] for name, values in who.items()}
        costs = {name: [cost for _, cost in values] for name, values in who.items()}
        throughput = ratio(rates["quiet"], rates["peer"])
        plain = ratio(rates["plain"], rates["peer"])
        with_log = ratio(rates["logging"], rates["peer"])
        cost = ratio(costs["quiet"], costs["peer"])
        figures[case] = {
            "requests_per_second": {name: median(values) for name, values in rates.items()},
            "cpu_microseconds_per_request": {name: median(values) * 1e6 for name, values in costs.items()},
            "throughput": throughput.figures(),
            "throughput_without_link_time_optimisation": plain.figures(),
            "throughput_with_access_log": with_log.figures(),
            "cpu_cost": cost.figures(),
        }
        rows.append(
            [
                case,
                f"{median(rates['quiet']):.0f}",
                f"{median(rates['peer']):.0f}",
                str(throughput),
                f"{median(costs['quiet']) * 1e6:.0f} / {median(costs['peer']) * 1e6:.0f} µs",
                str(cost),
                str(plain),
                f"{with_log.median:.2f}",
            ]
        )
    return Section(
        title="A handler that does nothing, next to `wasmtime serve`",
        figures=figures,
        tables=[
            Table(
                [
                    "handler",
                    "requests/s",
                    "wasmtime's",
                    "ratio",
                    "CPU per request, ours / wasmtime's",
                    "ratio",
                    "requests/s, built by `make run`, to wasmtime's",
                    "with access log",
                ],
                rows,
            )
        ],
        notes=[
            f"`wrk -t1 -c{CONNECTIONS} -d{SECONDS}s`, in turns; load generator and server share the processor's cores. "
            f"\"fresh\" is an instance for each request, \"reused\" one for {REUSE}, one request at a time, on both sides.",
            "`whisper-host` holds every request to its limits (wall-clock time, CPU time, memory, body, queue), "
            "gives it an id, and checks its client's share; `wasmtime serve` has no limits on by default. Neither logs requests, "
            "but in the last column `whisper-host` writes its access log, to a file.",
            "`wasmtime` is built as `cargo install` builds it, without optimisation across crates; so is the `whisper-host` of "
            "`make run`, in the column before the last. The others are built with the profile `dist`, for machines that serve.",
        ],
    )
