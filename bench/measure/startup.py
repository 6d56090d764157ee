"""From the start of the process to `ready`, with compiled components in the cache."""

import time
from pathlib import Path
from statistics import median

from .processes import whisper_host
from .section import Section, Table


def start(state: Path, *options: str) -> float:
    """Seconds until the host reports that it is ready."""
    begun = time.perf_counter()
    with whisper_host(state, *options):
        return time.perf_counter() - begun


def measure(rounds: int, state: Path) -> Section:
    cases = {"with the model": [], "without a model": ["-f", "bench/load.toml"]}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    folder = state / "startup"
    cold = {name: start(folder, *options) for name, options in cases.items()}
    for _ in range(rounds):
        for name, options in cases.items():
            seconds[name].append(start(folder, *options))
    return Section(
        title="Start-up",
        figures={name: {"warm": median(seconds[name]), "cold": cold[name]} for name in cases},
        tables=[
            Table(
                ["application", "warm code cache", "empty code cache"],
                [[name, f"{median(seconds[name]) * 1e3:.0f} ms", f"{cold[name]:.1f} s"] for name in cases],
            )
        ],
        notes=["From the start of the process to `ready`. With the model: spin.toml; without: load.toml."],
    )
