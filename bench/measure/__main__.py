"""Runs the measurements one after the other and reports them."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from . import analyze, deploying, features, hostile, load, long, machine, parts, queue, speech, startup, storing
from .section import Section

MEASUREMENTS = {
    "speech": speech,
    "long": long,
    "parts": parts,
    "analyze": analyze,
    "features": features,
    "load": load,
    "hostile": hostile,
    "deploying": deploying,
    "startup": startup,
    "storing": storing,
    "queue": queue,
}
RESULTS = Path("bench/RESULTS.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/run.sh", description="Measures side by side with peers; prints ratios.")
    parser.add_argument("only", nargs="*", metavar="MEASUREMENT", help=", ".join(MEASUREMENTS) + "; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--rounds", type=int, default=5, help="how often each thing is measured (default: 5)")
    options = parser.parse_args()

    names = options.only or list(MEASUREMENTS)
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"there is no measurement {unknown[0]!r}; there are: {', '.join(MEASUREMENTS)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    about = machine.describe()
    sections: dict[str, Section] = {}
    with tempfile.TemporaryDirectory(prefix="whisper-host-bench-") as folder:
        for name in names:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            sections[name] = MEASUREMENTS[name].measure(options.rounds, Path(folder))
    about["load after"] = machine.load()
    about["rounds"] = str(options.rounds)

    text = "\n".join(section.markdown() for section in sections.values())
    if options.json:
        print(json.dumps({"machine": about} | {name: section.figures for name, section in sections.items()}, indent=2))
    else:
        print(text)
    # RESULTS.md is written only by a complete run.
    if set(names) == set(MEASUREMENTS):
        RESULTS.write_text(page(about, text))


def page(about: dict[str, str], text: str) -> str:
    lines = [f"- {name}: {value}" for name, value in about.items()]
    return (
        "# Results\n\nWritten by `make bench`; README.md says how it measures. Every figure is the median of the rounds, every "
        "ratio the median\nof the ratios in each round, with the least and the most. A load before the run means that "
        "the machine had other work too.\n\n" + "\n".join(lines) + "\n\n" + text
    )


if __name__ == "__main__":
    main()
