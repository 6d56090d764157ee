"""Speech on disk: one shard is `NAME.npy`, all samples end to end (int16, 16 kHz), and `NAME.json`, what they are.

The samples are mapped, not read, so that hundreds of hours need no memory. The `.json` is written last: a shard without
it was interrupted, and is made again. A shard of pronunciations is the `.json` alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import layout
from .voices import Pronunciation, Utterance


@dataclass
class Shard:
    """Samples of all utterances, and for each one its text, voice, place and phonemes."""

    samples: np.ndarray
    rows: list[dict]

    def utterance_samples(self, index: int) -> np.ndarray:
        start, end = self.rows[index]["span"]
        return self.samples[start:end]

    def utterance(self, index: int) -> Utterance:
        row = self.rows[index]
        return Utterance(row["text"], row["voice"], self.utterance_samples(index), row["phonemes"])


def write(path: Path, utterances: list[Utterance]) -> None:
    """Writes `path` (without suffix)."""
    rows, position = [], 0
    for utterance in utterances:
        end = position + len(utterance.samples)
        rows.append(
            {
                "text": utterance.text,
                "voice": utterance.voice,
                "span": [position, end],
                "phonemes": [[round(time, 3), label] for time, label in utterance.phonemes],
            }
        )
        position = end
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path.with_suffix(".npy"), np.concatenate([utterance.samples for utterance in utterances]))
    layout.write(path.with_suffix(".json"), json.dumps(rows))


def write_pronunciations(path: Path, pronunciations: list[Pronunciation]) -> None:
    """Writes `path` (without suffix)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [[p.engine, p.text, " ".join(p.phonemes)] for p in pronunciations]
    layout.write(path.with_suffix(".json"), json.dumps(rows))


def read_pronunciations(path: Path) -> list[Pronunciation]:
    """Reads `path` (without suffix)."""
    rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return [Pronunciation(text, engine, phonemes.split()) for engine, text, phonemes in rows]


def read(path: Path) -> Shard:
    """Reads `path` (without suffix)."""
    rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Shard(np.load(path.with_suffix(".npy"), mmap_mode="r"), rows)


def finished(folder: Path) -> list[Path]:
    """The shards in a folder, by name, without suffix."""
    return sorted(path.with_suffix("") for path in folder.glob("*.json"))
