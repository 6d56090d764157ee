"""Transcribes the recordings with both systems and reports the words they got wrong."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from measure import machine, models
from measure.systems import COMPUTE_TYPES

from . import answers, noise, recordings, report

SETS = {
    "prompts": lambda folder: recordings.one_by_one(),
    "long": recordings.long,
    "librivox": lambda folder: recordings.librivox(),
    "project": lambda folder: recordings.project(),
    "half-hour": recordings.half_hour,
    "gaps": recordings.gaps,
    "after-noise": recordings.after_noise,
    "noise": noise.clips,
}
DEFAULT_SETS = ["prompts", "long", "librivox", "project"]
BEAMS = [1, 5]


def chosen(names: list[str], what: str):
    """An option's type: names with commas between them, or `all`."""

    def parse(text: str) -> list[str]:
        found = names if text == "all" else text.split(",")
        if unknown := [name for name in found if name not in names]:
            raise argparse.ArgumentTypeError(f"there is no {what} {unknown[0]!r}; there are: {', '.join(names)}, all")
        return found

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench/accuracy/run.sh", description="Counts word errors next to faster-whisper's."
    )
    beams = [str(beam) for beam in BEAMS]
    for name, known, default in [
        ("--model", models.REAL, models.REAL),
        ("--precision", list(COMPUTE_TYPES), ["int8"]),
        ("--beam", beams, beams),
        ("--sets", list(SETS), DEFAULT_SETS),
    ]:
        values = f"{', '.join(known)}, or all; with commas between them (default: {','.join(default)})"
        parser.add_argument(name, type=chosen(known, name[2:]), default=default, metavar="NAMES", help=values)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables, with every text that was heard")
    options = parser.parse_args()

    begun = time.monotonic()
    versions = recordings.fetch()
    folders = {name: models.folder(name) for name in options.model}
    runs = []
    with tempfile.TemporaryDirectory(prefix="whisper-host-accuracy-") as folder:
        spoken = [recording for name in options.sets for recording in SETS[name](Path(folder))]
        for name, model in folders.items():
            known = models.languages(name)
            apt = [recording for recording in spoken if suits(recording, known)]
            for precision in options.precision:
                widths = [int(beam) for beam in options.beam]
                theirs = answers.of_theirs(model, precision, widths, apt)
                ours = answers.of_ours(model, precision, Path(folder) / "state", widths, apt)
                runs += [report.Run(name, precision, beam, apt, ours[beam], theirs[beam]) for beam in widths]
        parts = [part for make in (report.words, report.invented, report.times) if (part := make(runs))]
    about = machine.processor_and_commit() | {
        "packages": machine.packages("faster-whisper", "ctranslate2", "whisper-normalizer", "jiwer"),
        "recordings": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "minutes": f"{(time.monotonic() - begun) / 60:.0f}",
    }

    verdicts = [line for _, lines in parts for line in lines]
    if options.json:
        figures = {name: value for section, _ in parts for name, value in section.figures.items()}
        print(
            json.dumps(
                {"about": about} | figures | {"verdicts": verdicts, "heard": heard(runs)}, indent=2, ensure_ascii=False
            )
        )
    else:
        print("\n".join(f"- {name}: {value}" for name, value in about.items()) + "\n")
        print("\n".join(section.markdown() for section, _ in parts))
        print("\n".join(["## Bars", "", *(f"    {line}" for line in verdicts)]))
    missed = sum(line.startswith("MISSED") for line in verdicts)
    print(f"{len(verdicts) - missed} of {len(verdicts)} bars met", file=sys.stderr)


def suits(recording: recordings.Recording, known: list[str] | None) -> bool:
    """Whether a model that is for these languages can be asked. Noise has no language."""
    return known is None or recording.set == "noise" or recording.language in known


def heard(runs: list[report.Run]) -> list[dict]:
    return [
        {
            "run": run.name,
            "set": recording.set,
            "language": recording.language,
            "file": recording.path.name,
            "texts": recording.texts,
            "ours": ours.text,
            "theirs": theirs.text,
        }
        for run in runs
        for recording, ours, theirs in zip(run.recordings, run.ours, run.theirs, strict=True)
    ]


if __name__ == "__main__":
    main()
