"""Training windows: utterances laid one after the other into a window, and everything that is to be learned of it.

A window's audio is raw; `augment` and `logmel` follow on the training device. All of it is a function of the seed, the
number of the step and the shards that exist, so a resumed run goes on as if it had not stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Self

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer

from . import nonspeech, shards
from .layout import POSITIONS_PER_SECOND, SAMPLE_RATE, WINDOW, Work
from .tokens import CONTEXT, Specials

LENGTHS = ((4.0, 0.3), (6.0, 0.3), (WINDOW, 0.4))
"""Seconds of a batch's windows, and shares of the audio. Rows of a batch are of one length: half a full window of
silence would cost as much as speech, and the positions learned in a short row are those of a full one."""

NO_SPEECH, TIMESTAMPS, PROMPT, OVERHANG = 0.04, 0.5, 0.08, 0.35
"""Shares: of windows without speech; of windows with time stamps; of windows with a prompt; and of the full ones with
time stamps in which the last sentence runs over the edge, is marked with its start, and not written down. From that
mark a decoder knows where the next window has to begin."""

REFRESH = 200
"""Steps after which new shards are looked for."""

IGNORE = -100
CHARACTERS = {character: index for index, character in enumerate("abcdefghijklmnopqrstuvwxyz' ", start=1)}
SILENT = ("_", "_:", "pau", ";")
"""Phonemes that are none: pauses, and espeak-ng's mark of palatalisation."""


@dataclass
class Spoken:
    """A sentence as it lies in a window: when each phoneme begins, in seconds, the phonemes' numbers, which of them can be
    heard. What is only read has no samples."""

    text: str
    group: str
    seconds: float
    times: np.ndarray
    labels: np.ndarray
    audible: np.ndarray
    samples: np.ndarray | None = None


class Tensors:
    """A dataclass of tensors."""

    def to(self, device: torch.device) -> Self:
        return type(self)(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


@dataclass
class Batch(Tensors):
    """What is heard in one step; `[rows, …]` each but for `characters`, which lie end to end."""

    samples: torch.Tensor
    inputs: torch.Tensor
    targets: torch.Tensor
    centres: torch.Tensor
    phonemes: torch.Tensor
    characters: torch.Tensor
    character_counts: torch.Tensor


@dataclass
class Reading(Tensors):
    """What is read in one step, for `injection`: phonemes in place of samples, each at one encoder position."""

    phonemes: torch.Tensor
    positions: torch.Tensor
    inputs: torch.Tensor
    targets: torch.Tensor
    centres: torch.Tensor


@dataclass
class Row:
    """One window while it is made. `centres` are the positions where tokens are spoken, -1 where that means nothing; the
    samples stay empty unless it is `heard`."""

    heard: bool
    samples: np.ndarray
    phonemes: np.ndarray
    tokens: list[int] = field(default_factory=list)
    centres: list[float] = field(default_factory=list)
    unlearned: int = 0
    text: str = ""

    def add(self, tokens: list[int], centres: list[float] | None = None) -> None:
        self.tokens += tokens
        self.centres += centres if centres is not None else [-1.0] * len(tokens)


def characters(text: str) -> list[int]:
    kept = "".join(character if character in CHARACTERS else " " for character in text.lower())
    return [CHARACTERS[character] for character in " ".join(kept.split())]


def spoken_at(encoding: Encoding, length: int, times: np.ndarray) -> list[float]:
    """Where each token is spoken, in seconds: its place among the letters, carried over to the phonemes' times."""
    places = [max(0.0, (start + end) / 2 - 1) / max(1, length) * (len(times) - 1) for start, end in encoding.offsets]
    return np.interp(places, np.arange(len(times)), times).tolist()


def middles_of_runs(labels: np.ndarray) -> np.ndarray:
    """The middle of every run of equal labels."""
    edges = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    return (np.concatenate([[0], edges]) + np.concatenate([edges, [len(labels)]]) - 1) // 2


class Corpus:
    """The finished shards of training speech: what is heard."""

    def __init__(self, work: Work, phonemes: dict[str, int]) -> None:
        self.folder, self.phonemes = work.speech / "train", phonemes
        self.shards = 0
        self.spoken: list[Spoken] = []
        self.groups: dict[str, list[int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes in shards that were made meanwhile."""
        for path in shards.finished(self.folder)[self.shards :]:
            shard = shards.read(path)
            for index, row in enumerate(shard.rows):
                engine, _, voice = row["voice"].partition(":")
                group = voice if engine == "flite" else engine
                names = [name for _, name in row["phonemes"]]
                samples = shard.utterance_samples(index)
                self.groups.setdefault(group, []).append(len(self.spoken))
                self.spoken.append(
                    Spoken(
                        row["text"],
                        group,
                        len(samples) / SAMPLE_RATE,
                        np.array([time for time, _ in row["phonemes"]], np.float32),
                        np.array([self.phonemes.get(f"{engine}:{name}", IGNORE) for name in names], np.int16),
                        np.array([name not in SILENT for name in names]),
                        samples,
                    )
                )
            self.shards += 1

    def draw(self, r: Random, group: str | None = None) -> Spoken:
        return self.spoken[r.choice(self.groups[group]) if group else r.randrange(len(self.spoken))]


class Library:
    """The finished shards of pronunciations: what is read. Hundreds of thousands, so the phonemes lie end to end."""

    def __init__(self, work: Work, phonemes: dict[str, int]) -> None:
        self.folder, self.phonemes = work.speech / "read", phonemes
        self.silent = np.array([number for name, number in phonemes.items() if name.partition(":")[2] in SILENT])
        self.shards = 0
        self.texts: list[str] = []
        self.labels: list[np.ndarray] = []
        self.places: list[tuple[int, int, int]] = []
        self.groups: dict[str, list[int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Takes in shards that were made meanwhile."""
        for path in shards.finished(self.folder)[self.shards :]:
            labels: list[int] = []
            for pronounced in shards.read_pronunciations(path):
                self.groups.setdefault(pronounced.engine, []).append(len(self.texts))
                self.texts.append(pronounced.text)
                numbers = [self.phonemes.get(f"{pronounced.engine}:{name}", IGNORE) for name in pronounced.phonemes]
                self.places.append((self.shards, len(labels), len(labels) + len(numbers)))
                labels += numbers
            self.labels.append(np.array(labels, np.int16))
            self.shards += 1

    def draw(self, r: Random, group: str | None = None) -> Spoken:
        """A sentence, its phonemes between 0.04 and 0.12 s long."""
        group = group or r.choices(list(self.groups), [len(indices) for indices in self.groups.values()])[0]
        index = r.choice(self.groups[group])
        shard, begin, end = self.places[index]
        labels = self.labels[shard][begin:end]
        lengths = r.uniform(0.06, 0.085) * np.random.default_rng(r.getrandbits(64)).uniform(0.65, 1.4, len(labels))
        ends = np.cumsum(lengths)
        audible = (labels != IGNORE) & ~np.isin(labels, self.silent)
        return Spoken(self.texts[index], group, float(ends[-1]), ends - lengths, labels, audible)


class Windows:
    """Makes the batch of a step."""

    def __init__(self, work: Work, tokenizer: Tokenizer, ids: Specials, phonemes: dict[str, int], seed: int) -> None:
        self.work, self.tokenizer, self.ids, self.phonemes = work, tokenizer, ids, phonemes
        self.seed = seed
        self.corpus: Corpus | None = None
        self.library: Library | None = None
        self.refreshed = 0

    def refresh(self, step: int) -> None:
        if self.corpus is None:
            self.corpus, self.library = Corpus(self.work, self.phonemes), Library(self.work, self.phonemes)
            self.refreshed = step
        elif step >= self.refreshed + REFRESH:
            self.corpus.refresh()
            self.library.refresh()
            self.refreshed = step

    def rows(self, r: Random, seconds: float, heard: bool) -> list[Row]:
        length = r.choices([length for length, _ in LENGTHS], [share for _, share in LENGTHS])[0]
        return [self.row(r, length, heard) for _ in range(max(2, round(seconds / length)))]

    def tokens(self, rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the decoder is given, what it is to say, and where that is spoken."""
        longest = max(len(row.tokens) for row in rows)
        inputs = torch.full((len(rows), longest - 1), self.ids.end)
        targets = torch.full((len(rows), longest - 1), IGNORE)
        centres = torch.full((len(rows), longest - 1), -1.0)
        for number, row in enumerate(rows):
            count = len(row.tokens) - 1
            inputs[number, :count] = torch.tensor(row.tokens[:-1])
            targets[number, :count] = torch.tensor(row.tokens[1:])
            targets[number, : row.unlearned] = IGNORE
            centres[number, :count] = torch.tensor(row.centres[1:])
        return inputs, targets, centres

    def batch(self, step: int, seconds: float) -> Batch:
        """So many seconds of windows, to be heard."""
        self.refresh(step)
        rows = self.rows(Random(f"{self.seed}/windows/{step}"), seconds, heard=True)
        inputs, targets, centres = self.tokens(rows)
        letters = [characters(row.text) for row in rows]
        return Batch(
            torch.from_numpy(np.stack([row.samples for row in rows])),
            inputs,
            targets,
            centres,
            torch.from_numpy(np.stack([row.phonemes for row in rows])),
            torch.tensor([letter for text in letters for letter in text], dtype=torch.long),
            torch.tensor([len(text) for text in letters]),
        )

    def reading(self, step: int, seconds: float) -> Reading:
        """So many seconds of windows, to be read: of each stretch of one phoneme, or of silence, the position in its
        middle, and of other positions as many as it takes to make all rows as long as the longest."""
        self.refresh(step)
        r = Random(f"{self.seed}/readings/{step}")
        rows = self.rows(r, seconds, heard=False)
        inputs, targets, centres = self.tokens(rows)
        middles = [middles_of_runs(row.phonemes) for row in rows]
        longest = max(len(middle) for middle in middles)
        positions = np.stack([self.filled(r, middle, len(rows[0].phonemes), longest) for middle in middles])
        phonemes = np.take_along_axis(np.stack([row.phonemes for row in rows]), positions, axis=1)
        return Reading(torch.from_numpy(phonemes), torch.from_numpy(positions), inputs, targets, centres)

    @staticmethod
    def filled(r: Random, chosen: np.ndarray, length: int, count: int) -> np.ndarray:
        """`count` of the positions below `length`, in order, those `chosen` among them."""
        others = np.setdiff1d(np.arange(length), chosen)
        return np.sort(np.concatenate([chosen, r.sample(others.tolist(), count - len(chosen))])).astype(np.int64)

    def row(self, r: Random, length: float, heard: bool) -> Row:
        """One window. What is read always has speech, and no prompt: all rows would have to be as long as the longest."""
        ids = self.ids
        row = Row(
            heard,
            np.zeros(int(length * SAMPLE_RATE), np.float32),
            np.full(int(length * POSITIONS_PER_SECOND), IGNORE, np.int64),
        )
        timestamps = r.random() < TIMESTAMPS
        speech = not heard or r.random() >= NO_SPEECH
        if r.random() < PROMPT and heard:
            prompt = self.tokenizer.encode(f" {self.corpus.draw(r).text}").ids
            row.add([ids.previous, *prompt[: CONTEXT // 2]])
            row.unlearned = len(row.tokens)  # all of it is given, and so is the start token
        row.add([ids.start])
        if not speech:
            row.samples[:] = nonspeech.sample(np.random.default_rng(r.getrandbits(64)), len(row.samples))
            if r.random() < 0.5:
                row.add([ids.no_speech, ids.end])
                return row
        row.add([ids.english, ids.transcribe] + ([] if timestamps else [ids.no_timestamps]))
        if not speech:
            row.add([ids.first_timestamp, ids.end] if timestamps else [ids.end])
            return row
        self.fill(r, row, length, timestamps)
        row.add([ids.end])
        row.tokens, row.centres = row.tokens[:CONTEXT], row.centres[:CONTEXT]
        return row

    def fill(self, r: Random, row: Row, length: float, timestamps: bool) -> None:
        """Lays utterances into the row until the next one does not fit; mostly by one speaker, with pauses between. What is
        heard may begin late or end early."""
        position = r.uniform(0, 0.25) if r.random() < 0.8 or not row.heard else r.uniform(0, 0.4 * length)
        overhang = timestamps and length == WINDOW and r.random() < OVERHANG
        source, group = self.corpus if row.heard else self.library, None
        misses, texts = 0, []
        while misses < 8:
            spoken = source.draw(r, group)
            speed = r.uniform(0.92, 1.09)
            seconds = spoken.seconds / speed
            if position + seconds > length - 0.02:
                misses += 1
                if texts and overhang and position < length - 0.5:
                    self.lay(r, row, spoken, position, speed)
                    row.add([self.stamp(position)], [position * POSITIONS_PER_SECOND])
                    return  # without letters: CTC would be asked to pass over speech
                continue
            times = self.lay(r, row, spoken, position, speed)
            encoding = self.tokenizer.encode(f" {spoken.text}")
            centres = [POSITIONS_PER_SECOND * time for time in spoken_at(encoding, len(spoken.text), times)]
            if timestamps:
                row.add([self.stamp(position)], [position * POSITIONS_PER_SECOND])
            row.add(encoding.ids, centres)
            end = position + seconds
            if timestamps:
                row.add([self.stamp(end)], [end * POSITIONS_PER_SECOND])
            texts.append(spoken.text)
            group = spoken.group if r.random() < 0.85 else None
            position = end + (r.uniform(0.05, 0.6) if r.random() < 0.85 else r.uniform(0.6, 2.0))
            if row.heard and r.random() < 0.12:
                break
        if timestamps and not texts:  # nothing fitted after a late beginning: silence
            row.add([self.ids.first_timestamp])
        row.text = " ".join(texts)

    def lay(self, r: Random, row: Row, spoken: Spoken, position: float, speed: float) -> np.ndarray:
        """Adds an utterance's phonemes, and its samples if it is heard, at `position` seconds; returns when its audible
        phonemes begin."""
        if spoken.samples is not None:
            source = spoken.samples.astype(np.float32) / 32768
            count = int(len(source) / speed)
            samples = np.interp(np.arange(count) * speed, np.arange(len(source)), source)
            start = int(position * SAMPLE_RATE)
            place = row.samples[start : start + count]
            place += (samples * r.uniform(0.4, 1.0))[: len(place)].astype(np.float32)

        times = spoken.times / speed + position
        edges = (np.append(times, position + spoken.seconds / speed) * POSITIONS_PER_SECOND).astype(int)
        for label, begin, end in zip(spoken.labels, edges, edges[1:], strict=False):
            row.phonemes[begin:end] = label
        audible = times[spoken.audible]
        return audible if len(audible) else np.array([position])

    def stamp(self, seconds: float) -> int:
        """The time stamp token nearest to a time in the window."""
        return self.ids.first_timestamp + min(round(seconds * POSITIONS_PER_SECOND), int(WINDOW * POSITIONS_PER_SECOND))


class Stream(torch.utils.data.IterableDataset):
    """What is heard and read from a step on, made in a process of its own."""

    def __init__(self, windows: Windows, first_step: int, seconds: float, read_seconds: float) -> None:
        self.windows, self.first_step = windows, first_step
        self.seconds, self.read_seconds = seconds, read_seconds

    def __iter__(self) -> Iterator[tuple[Batch, Reading | None]]:
        torch.set_num_threads(1)
        info = torch.utils.data.get_worker_info()
        step = self.first_step + info.id
        while True:
            reading = self.windows.reading(step, self.read_seconds) if self.read_seconds else None
            yield self.windows.batch(step, self.seconds), reading
            step += info.num_workers
