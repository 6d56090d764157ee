"""Speech to text of people, whole requests, next to faster-whisper: one at a time, eight clients at once, peak memory."""

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
#: Everything takes seconds: so many rounds at most, and one of what takes longest.
ROUNDS = 3
#: The shape that stands for a size whose weights are not at hand. Its requests end after a fixed number of tokens.
SHAPE = "small"
#: How much faster than the peer, at least; how much more memory, at most.
LATENCY_BAR, THROUGHPUT_BAR, MEMORY_BAR = 1.0, 1.5, 1.2


@dataclass
class Case:
    """One model at one precision and width of beam. Seconds a request, requests a second, peaks of memory in bytes."""

    model: str
    precision: str
    beam: int
    latency: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})
    throughput: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "one worker": [], "two workers": []})
    memory: dict[str, int] = field(default_factory=dict)

    def times_faster(self) -> Ratio:
        return ratio(self.latency["theirs"], self.latency["ours"])

    def better(self) -> str:
        """The peer's better way to serve several clients."""
        return max(("one worker", "two workers"), key=lambda way: median(self.throughput[way]))

    def times_throughput(self) -> Ratio:
        return ratio(self.throughput["ours"], self.throughput[self.better()])

    def times_memory(self) -> float:
        """With one client and with eight, the worse of the two."""
        return max(
            self.memory["ours, one client"] / self.memory["one worker, one client"],
            self.memory["ours"] / self.memory[self.better()],
        )


def measure(rounds: int, state: Path) -> Section:
    recordings.fetch()
    files = chosen()
    cases = []
    measured = [(name, models.folder(name)) for name in models.REAL] + [(f"{SHAPE} (shape)", shapes.folder(SHAPE))]
    for name, folder in measured:
        for precision in COMPUTE_TYPES:
            print(f"  {name}, {precision}", file=sys.stderr, flush=True)
            cases += compared(name, folder, precision, min(rounds, ROUNDS), state, files)
    return report(cases)


def chosen() -> list[Path]:
    """A file for each client: prompts and sentences from a book, in English."""
    read = [recording.path for recording in recordings.librivox()][:3]
    return [path for path, _ in recordings.prompts("en")[: CLIENTS - len(read)]] + read


def compared(name: str, folder: Path, precision: str, rounds: int, state: Path, files: list[Path]) -> list[Case]:
    cases = []
    with (
        ours(folder, precision, state / "host") as host,
        theirs(folder, precision) as peer,
        # What its users do for several callers at once: each worker has a part of the threads.
        theirs(folder, precision, threads=1, workers=2) as two_workers,
    ):
        several = {"ours": host, "one worker": peer, "two workers": two_workers}
        for beam in BEAMS:
            case = Case(name, precision, beam)
            options = {"language": "en", "beam_size": beam}
            alone = files[::3]
            if name.endswith("(shape)"):
                # Whatever the model says, it is not tried again at a higher temperature.
                options["temperature"], rounds, alone = 0, 1, files[:1]
            for system in several.values():
                system.transcribe(files[:1], **options)
            for _ in range(rounds):
                for who, system in (("ours", host), ("theirs", peer)):
                    case.latency[who].append(system.transcribe(alone, **options)[1] / len(alone))
            case.memory |= {f"{who}, one client": several[who].peak_memory() for who in ("ours", "one worker")}
            for _ in range(rounds):
                for who, system in several.items():
                    case.throughput[who].append(len(files) / system.transcribe(files, at_once=CLIENTS, **options)[1])
            case.memory |= {who: system.peak_memory() for who, system in several.items()}
            cases.append(case)
    return cases


def report(cases: list[Case]) -> Section:
    figures, speed, memory = {}, [], []
    for case in cases:
        latency, throughput, better = case.times_faster(), case.times_throughput(), case.better()
        figures[f"{case.model}, {case.precision}, beam {case.beam}"] = {
            "latency_seconds": {who: median(values) for who, values in case.latency.items()},
            "times_faster": latency.figures(),
            "requests_per_second": {who: median(values) for who, values in case.throughput.items()},
            "times_throughput": throughput.figures(),
            "peak_memory": case.memory,
            "times_memory": case.times_memory(),
        }
        name = [case.model, case.precision, str(case.beam)]
        seconds = {who: median(values) * 1e3 for who, values in case.latency.items()}
        rates = {who: median(values) for who, values in case.throughput.items()}
        speed.append(
            [
                *name,
                f"{seconds['ours']:.0f} / {seconds['theirs']:.0f} ms",
                str(latency),
                f"{rates['ours']:.2f} / {rates['one worker']:.2f} / {rates['two workers']:.2f}",
                str(throughput),
                missed(latency.median >= LATENCY_BAR, throughput.median >= THROUGHPUT_BAR),
            ]
        )
        megabytes = {who: value / 1e6 for who, value in case.memory.items()}
        memory.append(
            [
                *name,
                f"{megabytes['ours, one client']:.0f} / {megabytes['one worker, one client']:.0f} MB",
                f"{megabytes['ours']:.0f} / {megabytes[better]:.0f} MB",
                f"{case.times_memory():.2f}",
                "met" if case.times_memory() <= MEMORY_BAR else "missed",
            ]
        )
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
            Table([*of_model, "peak memory, one client, ours / theirs", clients, "ratio", "bar"], memory),
        ],
        notes=[
            f"Two threads on both sides, the same files, precision and width of beam. A request of ours is a client's over HTTP, of "
            f"theirs a call of `WhisperModel.transcribe` in its process. {clients.capitalize()} are as many connections for us, and "
            "for them a pool of as many threads that call one `WhisperModel`: with one worker of two threads, or two workers of one "
            "thread, whichever serves more. Recordings are English, prompts of a telephone exchange and sentences from a book.",
            f"The shape has random weights and says {shapes.TOKENS} tokens for each recording.",
            f"Bars: a request at least {LATENCY_BAR:.1f} times as fast, {clients} at least {THROUGHPUT_BAR:.1f} times the throughput, "
            f"at most {MEMORY_BAR:.1f} times the memory, the peak resident set since the start of the process.",
        ],
    )


def missed(latency: bool, throughput: bool) -> str:
    names = [name for name, met in (("latency", latency), ("throughput", throughput)) if not met]
    return f"missed: {', '.join(names)}" if names else "met"
