"""Whole requests with recordings of people, compared with faster-whisper: sequential, eight concurrent clients, peak memory."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from accuracy import recordings

from . import models, shapes
from .section import Ratio, Section, Table, ratio
from .systems import COMPUTE_TYPES, ours, theirs

BEAMS = [1, 5]
CLIENTS = 8
#: Requests take seconds: so many rounds at most of one client, and of all of them.
ROUNDS, CLIENT_ROUNDS = 3, 2
#: The shape that stands for a size whose weights are not at hand. Its requests end after a fixed number of tokens, and take
#: so long that each thing is measured once, and clients at once in one precision.
SHAPE, SHAPE_CLIENTS = "small", "int8"
#: How much faster than the peer, at least; how much more memory, at most.
LATENCY_BAR, THROUGHPUT_BAR, MEMORY_BAR = 1.0, 1.5, 1.2


@dataclass
class Case:
    """One beam width. Seconds per request, requests per second."""

    beam: int
    latency: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})
    throughput: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "one worker": [], "two workers": []})

    def times_faster(self) -> Ratio:
        return ratio(self.latency["theirs"], self.latency["ours"])

    def better(self) -> str:
        """The peer's better configuration for several clients."""
        return max(("one worker", "two workers"), key=lambda way: median(self.throughput[way]))

    def times_throughput(self) -> Ratio:
        return ratio(self.throughput["ours"], self.throughput[self.better()])


@dataclass
class Loaded:
    """One model at one precision. Peak memory in bytes, after sequential and after concurrent clients."""

    model: str
    precision: str
    cases: list[Case]
    alone: dict[str, int] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)

    def times_memory(self) -> list[float]:
        return [memory["ours"] / memory["theirs"] for memory in (self.alone, self.clients) if memory]


def measure(rounds: int, state: Path) -> Section:
    recordings.fetch()
    files = chosen()
    measured = [
        (name, models.folder(name), precision, files[::3], min(rounds, ROUNDS), min(rounds, CLIENT_ROUNDS))
        for name in models.REAL
        for precision in COMPUTE_TYPES
    ] + [
        (f"{SHAPE} (shape)", shapes.folder(SHAPE), precision, files[:1], 1, int(precision == SHAPE_CLIENTS))
        for precision in COMPUTE_TYPES
    ]
    return report([compared(*one, state, files) for one in measured])


def chosen() -> list[Path]:
    """One file per client: prompts and sentences from a book, in English."""
    read = [recording.path for recording in recordings.librivox()][:3]
    return [path for path, _ in recordings.prompts("en")[: CLIENTS - len(read)]] + read


def compared(
    name: str,
    folder: Path,
    precision: str,
    alone: list[Path],
    rounds: int,
    client_rounds: int,
    state: Path,
    files: list[Path],
) -> Loaded:
    print(f"  {name}, {precision}", file=sys.stderr, flush=True)
    loaded = Loaded(name, precision, [Case(beam) for beam in BEAMS])
    # Disable temperature fallback for random weights.
    options = {"language": "en"} | ({"temperature": 0} if name.endswith("(shape)") else {})
    with (
        ours(folder, precision, state / "host") as host,
        theirs(folder, precision) as peer,
        # Its usual configuration for several callers: each worker gets a share of the threads.
        theirs(folder, precision, threads=1, workers=2) as two_workers,
    ):
        for case in loaded.cases:
            for system in (host, peer):
                system.transcribe(alone[:1], beam_size=case.beam, **options)
            for _ in range(rounds):
                for who, system in (("ours", host), ("theirs", peer)):
                    seconds = system.transcribe(alone, beam_size=case.beam, **options)[1]
                    case.latency[who].append(seconds / len(alone))
        loaded.alone = {"ours": host.peak_memory(), "theirs": peer.peak_memory()}
        if client_rounds:
            two_workers.transcribe(alone[:1], beam_size=BEAMS[0], **options)
            for case in loaded.cases:
                for _ in range(client_rounds):
                    for who, system in (("ours", host), ("one worker", peer), ("two workers", two_workers)):
                        seconds = system.transcribe(files, at_once=CLIENTS, beam_size=case.beam, **options)[1]
                        case.throughput[who].append(len(files) / seconds)
            # The peer's configuration that needs less memory.
            least = min(peer.peak_memory(), two_workers.peak_memory())
            loaded.clients = {"ours": host.peak_memory(), "theirs": least}
    return loaded


def report(all_loaded: list[Loaded]) -> Section:
    figures, speed, memory = {}, [], []
    for loaded in all_loaded:
        for case in loaded.cases:
            speed.append([loaded.model, loaded.precision, str(case.beam), *speed_cells(case)])
            figures[f"{loaded.model}, {loaded.precision}, beam {case.beam}"] = {
                "latency_seconds": case.latency,
                "times_faster": case.times_faster().figures(),
            }
            if case.throughput["ours"]:
                figures[f"{loaded.model}, {loaded.precision}, beam {case.beam}"] |= {
                    "requests_per_second": case.throughput,
                    "times_throughput": case.times_throughput().figures(),
                }
        figures[f"{loaded.model}, {loaded.precision}"] = {"peak_memory": loaded.alone, "peak_memory_clients": loaded.clients}
        memory.append([loaded.model, loaded.precision])
        for peak in (loaded.alone, loaded.clients):
            memory[-1].append(f"{peak['ours'] / 1e6:.0f} / {peak['theirs'] / 1e6:.0f} MB" if peak else "")
        memory[-1].append(" and ".join(f"{times:.2f}" for times in loaded.times_memory()))
        memory[-1].append("met" if max(loaded.times_memory()) <= MEMORY_BAR else "missed")
    of_model = ["model", "precision", "beam"]
    clients = f"{CLIENTS} clients"
    return Section(
        title="Speech to text, next to faster-whisper",
        figures=figures,
        tables=[
            Table(
                [
                    *of_model,
                    "a request, ours / theirs",
                    "times faster",
                    f"requests/s of {clients}, ours / one worker / two",
                    "times their better",
                    "bars",
                ],
                speed,
            ),
            Table([*of_model[:2], "peak memory, one client, ours / theirs", clients, "ratios", "bar"], memory),
        ],
        notes=[
            f"Two threads on both sides, the same files, precision and width of beam. A request of ours is a client's over HTTP, of "
            f"theirs a call of `WhisperModel.transcribe` in its process. {clients.capitalize()} are as many connections for us, and "
            "for them a pool of as many threads that call one `WhisperModel`: with one worker of two threads, or two workers of one "
            "thread, whichever serves more. Recordings are English, prompts of a telephone exchange and sentences from a book.",
            f"The shape has random weights and says {shapes.TOKENS} tokens for each recording.",
            f"Bars: a request at least {LATENCY_BAR:.1f} times as fast, {clients} at least {THROUGHPUT_BAR:.1f} times the throughput, "
            f"at most {MEMORY_BAR:.1f} times the memory: the peak resident set since the start of the process, loading included.",
        ],
    )


def speed_cells(case: Case) -> list[str]:
    milliseconds = [f"{median(case.latency[who]) * 1e3:.0f}" for who in ("ours", "theirs")]
    latency = case.times_faster()
    bars = {"latency": latency.median >= LATENCY_BAR}
    rates, throughput = "", ""
    if case.throughput["ours"]:
        rates = " / ".join(f"{median(values):.2f}" for values in case.throughput.values())
        throughput = str(case.times_throughput())
        bars["throughput"] = case.times_throughput().median >= THROUGHPUT_BAR
    missed = [name for name, met in bars.items() if not met]
    verdict = f"missed: {', '.join(missed)}" if missed else "met"
    return [f"{' / '.join(milliseconds)} ms", str(latency), rates, throughput, verdict]
