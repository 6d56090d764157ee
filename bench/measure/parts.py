"""Encoder and decoder separately, compared with CTranslate2 and the machine's limits; and the host's overhead."""

import sys
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import median

from accuracy import recordings

from . import limits, models, shapes
from .processes import Instrumented, instrumented
from .section import Section, Table, ratio
from .shapes import PROMPT, TOKENS
from .speech import chosen
from .systems import COMPUTE_TYPES, THREADS, Ours, Theirs, theirs

#: Clients at once, each with one window, and the width of their beam. The rows of a step are their product.
LOADS = [(1, 1), (1, 5), (8, 1)]
#: The largest shape takes seconds for a window.
LARGE = "small"
ROUNDS, ROUNDS_OF_LARGE = 3, 1
#: After so many tokens a run of the peer's decoder is stopped, to tell its steps from what goes before.
FEW = 8
#: How much of a request may be the host's own, and with which model.
HOST_MODEL, HOST_BAR = "base", 0.05


@dataclass
class Case:
    """Seconds of the encoder per window, up to the keys and values of the decoder's cross-attention, and per step."""

    shape: str
    precision: str
    windows: int
    beam: int
    encoder: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})
    step: dict[str, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})
    #: Windows that the host decoded together, on average.
    together: list[float] = field(default_factory=list)
    #: Seconds that they would take at the machine's best.
    encoder_limit: float = inf
    step_limit: float = inf


def measure(rounds: int, state: Path) -> Section:
    recordings.fetch()
    file = chosen()[0]
    prompt = shapes.prompt()
    assert len(prompt) == PROMPT
    products = dict.fromkeys(COMPUTE_TYPES, 0.0)
    cases = []
    for name, shape in shapes.SHAPES.items():
        for precision in COMPUTE_TYPES:
            print(f"  shape of {name}, {precision}", file=sys.stderr, flush=True)
            folder = shapes.folder(name)
            most, loads = (ROUNDS_OF_LARGE, LOADS[:2]) if name == LARGE else (ROUNDS, LOADS)
            made = [Case(name, precision, *load) for load in loads]
            with (
                instrumented(state / "instrumented", folder, precision, THREADS) as host,
                theirs(folder, precision) as peer,
            ):
                for case in made:
                    of_ours(case, host, file)
                    of_theirs(case, peer, prompt)
                    for warm_up in (*case.encoder.values(), *case.step.values(), case.together):
                        warm_up.clear()
                for _ in range(min(rounds, most)):
                    products[precision] = max(products[precision], limits.product_rate(precision))
                    for case in made:
                        of_ours(case, host, file)
                        of_theirs(case, peer, prompt)
                        read = shape.step_bytes(precision, case.windows)
                        case.step_limit = min(case.step_limit, read / limits.read_rate(read))
            cases += made
    for case in cases:
        case.encoder_limit = shapes.SHAPES[case.shape].encoder_products() / products[case.precision]
    return report(cases, products, {precision: host_share(precision, rounds, state) for precision in COMPUTE_TYPES})


def of_ours(case: Case, host: Instrumented, file: Path) -> None:
    before = host.ask("counters")
    Ours(host).transcribe([file] * case.windows, at_once=case.windows, language="en", beam_size=case.beam, temperature=0)
    spent = {name: value - before[name] for name, value in host.ask("counters").items()}
    if spent["windows"] != case.windows:
        raise RuntimeError(f"the host decoded {spent['windows']} windows of the shape of {case.shape}, not {case.windows}")
    case.encoder["ours"].append(spent["encoder"] / spent["windows"])
    case.step["ours"].append(spent["decoder"] / spent["batches"] / TOKENS)
    case.together.append(spent["windows"] / spent["batches"])


def of_theirs(case: Case, peer: Theirs, prompt: list[int]) -> None:
    spent = peer.ask("parts", prompt=prompt, rows=case.windows, beam_size=case.beam, few_tokens=FEW)
    # Excluding the end-of-text token.
    if spent["tokens"] != TOKENS - 1:
        raise RuntimeError(f"the shape of {case.shape} said {spent['tokens']} tokens, not {TOKENS - 1}")
    step = (spent["decoder"] - spent["few"]) / (TOKENS - FEW)
    case.step["theirs"].append(step)
    case.encoder["theirs"].append((spent["encoder"] + spent["few"] - FEW * step) / case.windows)


def host_share(precision: str, rounds: int, state: Path) -> dict[str, float]:
    """Sequential requests with recordings of people: seconds in total, and without encoder and decoder."""
    print(f"  the host's part, {precision}", file=sys.stderr, flush=True)
    latency, rest = [], []
    with instrumented(state / "instrumented", models.folder(HOST_MODEL), precision, THREADS) as host:
        client = Ours(host)
        files = chosen()
        client.transcribe(files[:1], language="en", beam_size=1)
        for _ in range(min(rounds, ROUNDS)):
            before = host.ask("counters")
            seconds = client.transcribe(files, language="en", beam_size=1)[1]
            after = host.ask("counters")
            latency.append(seconds / len(files))
            worked = sum(after[name] - before[name] for name in ("encoder", "decoder"))
            rest.append((seconds - worked) / len(files))
    return {
        "latency": median(latency),
        "host": median(rest),
        "share": median(b / a for a, b in zip(latency, rest, strict=True)),
    }


def report(cases: list[Case], products: dict[str, float], shares: dict[str, dict[str, float]]) -> Section:
    figures, rows = {}, []
    for case in cases:
        encoder, step = ratio(case.encoder["theirs"], case.encoder["ours"]), ratio(case.step["theirs"], case.step["ours"])
        figures[f"{case.shape}, {case.precision}, {case.windows} windows, beam {case.beam}"] = {
            "encoder_seconds": {who: median(values) for who, values in case.encoder.items()},
            "step_seconds": {who: median(values) for who, values in case.step.items()},
            "encoder_limit": case.encoder_limit,
            "step_limit": case.step_limit,
            "encoder_times_faster": encoder.figures(),
            "step_times_faster": step.figures(),
            "windows_together": median(case.together),
        }
        rows.append([case.shape, case.precision, f"{case.windows} × {case.beam}", f"{median(case.together):.1f}"])
        for seconds, faster, limit, digits in (
            (case.encoder, encoder, case.encoder_limit, 0),
            (case.step, step, case.step_limit, 2),
        ):
            of_limit = [f"{median(seconds[who]) / limit:.1f}" for who in ("ours", "theirs")]
            milliseconds = [f"{median(seconds[who]) * 1e3:.{digits}f}" for who in ("ours", "theirs")]
            rows[-1] += [f"{' / '.join(milliseconds)} ms", str(faster), f"{limit * 1e3:.{digits}f} ms", " / ".join(of_limit)]
    figures["products_per_second"] = products
    figures["host"] = shares
    both = "ours / theirs"
    return Section(
        title="Encoder and decoder, next to CTranslate2 and to the machine's limits",
        figures=figures,
        tables=[
            Table(
                ["shape", "precision", "windows × beam", "decoded together"]
                + [f"encoder, {both}", "times faster", "limit", "times the limit"]
                + [f"step, {both}", "times faster", "limit", "times the limit"],
                rows,
            ),
            Table(
                ["model", "precision", "a request", "of it, all but encoder and decoder", "share", "bar"],
                [
                    [
                        HOST_MODEL,
                        precision,
                        f"{share['latency'] * 1e3:.0f} ms",
                        f"{share['host'] * 1e3:.1f} ms",
                        f"{share['share']:.1%}",
                        "met" if share["share"] < HOST_BAR else "missed",
                    ]
                    for precision, share in shares.items()
                ],
            ),
        ],
        notes=[
            f"True shapes, random weights, {THREADS} threads, {TOKENS} tokens a window. The encoder's milliseconds are for one window, "
            "and end with the keys and values of the decoder's cross-attention, which CTranslate2 makes in its first step. Ours "
            "are the engine's own counters, theirs calls of `encode` and `generate`. A step of ours has its share of the prompt, and "
            "where windows end before others of their batch or come later, fewer rows than its clients.",
            "The limit of the encoder is its operations over the rate of the machine's largest product of that precision ("
            + ", ".join(f"{precision} {rate / 1e9:.0f}" for precision, rate in products.items())
            + " billion a second); that of a step is the bytes that it must read over the rate at which as many bytes are read again "
            "and again. Both are measured between the rounds, with ONNX Runtime and NumPy on as many threads, and the best is taken.",
            f"The host's part: recordings of people, one window each, one at a time, beam 1. Bar: under {HOST_BAR:.0%}.",
        ],
    )
