"""A ten-minute file: the host compared with faster-whisper's batched pipeline."""

import sys
from pathlib import Path
from statistics import median

import numpy
from accuracy import recordings
from accuracy.sound import samples, write

from . import models
from .section import Section, Table, ratio
from .systems import ours, theirs

SECONDS = 600.0
#: The longest things that are measured: so many rounds at most.
ROUNDS = 2
#: Windows that its pipeline decodes at once: its default.
BATCH = 8
CASES = [("base", "int8", 1), ("base", "int8", 5)]
BAR = 1.0


def recording(path: Path) -> Path:
    """Concatenated English prompts with short pauses, up to the required length."""
    parts, length = [], 0.0
    for prompt, _ in recordings.prompts("en") * 2:
        if length >= SECONDS * recordings.RATE:
            break
        parts += [samples(prompt), numpy.zeros(int(recordings.PAUSE * recordings.RATE))]
        length += len(parts[-2]) + len(parts[-1])
    return write(path, recordings.RATE, parts)


def measure(rounds: int, state: Path) -> Section:
    recordings.fetch()
    file = recording(state / "ten-minutes.wav")
    figures, rows = {}, []
    for name, precision, beam in CASES:
        print(f"  {name}, {precision}, beam {beam}", file=sys.stderr, flush=True)
        folder = models.folder(name)
        options = {"language": "en", "beam_size": beam}
        mine, batched = [], []
        with ours(folder, precision, state / "host") as host, theirs(folder, precision) as peer:
            warm = recordings.prompts("en")[0][0]
            host.transcribe([warm], **options)
            peer.transcribe([warm], **options)
            for _ in range(min(rounds, ROUNDS)):
                mine.append(host.transcribe([file], timestamps="segment", **options)[1])
                batched.append(peer.batched(file, batch_size=BATCH, **options).seconds)
        times_faster = ratio(batched, mine)
        figures[f"{name}, {precision}, beam {beam}"] = {
            "seconds": {"ours": median(mine), "theirs": median(batched)},
            "times_faster": times_faster.figures(),
        }
        bar = "met" if times_faster.median >= BAR else "missed"
        seconds = f"{median(mine):.1f} / {median(batched):.1f} s"
        rows.append([name, precision, str(beam), seconds, str(times_faster), bar])
    return Section(
        title="Ten minutes of speech in one file",
        figures=figures,
        tables=[Table(["model", "precision", "beam", "ours / theirs", "times faster", "bar"], rows)],
        notes=[
            f"One request, two threads on both sides. `BatchedInferencePipeline` cuts the file by voice activity and decodes {BATCH} "
            "pieces at once, without time-stamp tokens and each without the text before it, as is its default; the host decodes window "
            f"after window. Bar: at least {BAR:.1f} times as fast as the batched pipeline.",
        ],
    )
