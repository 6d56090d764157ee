"""The card step: the model's README, from the figures of the evaluation and the sources of the text."""

import json
from collections import Counter

from . import evaluation, sources, text
from .export import BEAM_SIZE
from .layout import MELS, POSITIONS_PER_SECOND, WINDOW, Work
from .model import Shape, Whisper
from .tokens import CONTEXT
from .voices import ACCENTS, UNSEEN_VARIANTS, VARIANTS

HEAD = """---
language: en
license: apache-2.0
library_name: transformers
pipeline_tag: automatic-speech-recognition
tags:
  - whisper
  - onnx
---

# The bundled model

A very small English speech recogniser with Whisper's architecture and a window of {window:g} seconds, trained from scratch
on synthetic speech by `training/`. It lets a fresh clone transcribe without a download. For real use, point the host at a
published Whisper model; the host loads both in the same way.

## What it is not for

Human speech, languages other than English, digits (it writes numbers as words), and anything that depends on being right.
It has heard only synthesizers, and knows only words that occur in its texts.
"""


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def error_table(rows: list[dict]) -> str:
    lines = ["| voices | text | noise | int8 | fp32 | clips |", "|---|---|---|---|---|---|"]
    by_place: dict[tuple[str, str, str], dict[str, dict]] = {}
    for row in rows:
        by_place.setdefault((row["voices"], row["text"], row["noise"]), {})[row["precision"]] = row
    for place, figures in by_place.items():
        cells = [
            f"{percent(r['rate'])} ({percent(r['low'])} to {percent(r['high'])})" for r in (figures["int8"], figures["fp32"])
        ]
        lines.append(f"| {' | '.join(place)} | {' | '.join(cells)} | {figures['int8']['clips']} |")
    return "\n".join(lines)


def source_table(work: Work) -> str:
    counts = Counter(row["source"] for part in ("train", "read") for row in text.load(work, part))
    lines = ["| text | sentences | licence |", "|---|---|---|"]
    lines += [f"| {source.name} | {counts[source.name]:,} | {source.licence} |" for source in sources.SOURCES]
    made = sum(count for name, count in counts.items() if name.startswith("templates"))
    lines.append(f"| put together by `templates.py` and `everyday.py` in `training/` | {made:,} | Apache-2.0 |")
    lines += [f"| {source.name}; only read | {counts[source.name]:,} | {source.licence} |" for source in sources.READ_ONLY]
    listed = f"{text.LISTS} times each word of a spelling list, in lists of a few; only read"
    lines.append(f"| {listed} | {counts[text.LISTED]:,} | {sources.WORD_LIST_LICENCE} |")
    return "\n".join(lines)


def shape_table(work: Work, shape: dict) -> str:
    parameters = sum(parameter.numel() for parameter in Whisper(Shape(**shape)).model.parameters())
    graphs = [work.model / "onnx" / f"{part}_quantized.onnx" for part in ("encoder_model", "decoder_model_merged")]
    rows = {
        "window": f"{WINDOW:g} s, where Whisper has 30 s",
        "mel bins": MELS,
        "encoder, decoder": f"{shape['encoder_layers']} and {shape['decoder_layers']} layers of width {shape['width']}",
        "parameters": f"{parameters / 1e6:.2f} million",
        "int8 encoder and merged decoder": f"{sum(graph.stat().st_size for graph in graphs) / 1e6:.1f} MB",
        "vocabulary": f"{shape['vocabulary']:,}: byte-level BPE, specials, time stamps of {1 / POSITIONS_PER_SECOND} s",
        "text context": f"{CONTEXT} tokens",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def make(work: Work) -> None:
    """Writes `model/README.md`."""
    if not work.evaluation.exists():
        raise SystemExit("error: the exported model is not evaluated yet: run the step `evaluate` first, without --clips")
    found = json.loads(work.evaluation.read_text(encoding="utf-8"))
    times, quiet, exact = found["times"], found["quiet"], found["recordings"]
    exported = json.loads(work.exported.read_text(encoding="utf-8"))
    progress, shape = exported["progress"], exported["shape"]
    heard, read, trained = (progress[f"{name}_seconds"] / 3600 for name in ("audio", "read", "training"))
    quiet_lines = [
        f"| {kind} | {percent(figures['empty'])} of {figures['clips']} | {figures['words_a_minute']:.1f} |"
        for kind, figures in quiet.items()
    ]
    examples = [f"- {row['voices']}: *{row['said']}* was heard as *{row['heard']}*" for row in found["examples"]]
    noises = ", ".join(evaluation.NOISES)
    greedy = ", ".join(f"{percent(rate)} of {voices}" for voices, rate in found["greedy"].items())
    parts = [
        HEAD.format(window=WINDOW),
        "## How well it hears\n",
        f"Word error rates through `whisper-host transcribe` of unseen sentences, with 95 % intervals; "
        f"text lower-cased and without punctuation; the noise is white ({noises}). `made` sentences are stories, everyday "
        f"English, numbers, dates, questions and requests from templates, `story` and `everyday` are those of one kind "
        f"among them; `free` are everything else. Unseen variants are espeak-ng's "
        f"{', '.join(UNSEEN_VARIANTS)}; the unseen engine is festival.\n",
        error_table(found["words"]),
        f"\nDecoded with a beam search of {BEAM_SIZE}, as `generation_config.json` asks. Greedily (`--beam-size 1`) the "
        f"word errors of clean free text in int8 are {greedy}.\n",
        f"Segments of two-sentence clips begin within 0.3 s of the sentence in {percent(times['within_0.3_s'])} of cases "
        f"(median {times['median_s']:.2f} s, {times['clips']} clips); {percent(times['two_segments'])} have two segments.\n",
        f"| {WINDOW:g} s without speech | empty text | invented words a minute |\n|---|---|---|",
        "\n".join(quiet_lines),
        f"\nOf the recordings in `test/audio`, {sum(exact.values())} of {len(exact)} come out word for word.\n",
        "Random examples, free text, int8, clean:\n",
        "\n".join(examples),
        "\n## Shape\n",
        shape_table(work, shape),
        "\n## How it was made\n",
        f"{progress['step']:,} steps, over {heard:.0f} hours of audio that was heard and the phonemes of {read:.0f} hours "
        f"that were read, in {trained:.1f} hours. Spoken by espeak-ng ({len(ACCENTS)} accents, {len(VARIANTS)} variants) "
        f"and flite (kal, kal16, awb, rms, slt). `training/README.md` explains it. The sentences:\n",
        source_table(work),
    ]
    (work.model / "README.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"card: {work.model / 'README.md'}", flush=True)
