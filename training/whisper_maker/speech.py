"""The speech step: sentences spoken by the voices, in shards that training picks up as they appear.

`train/` grows as far as it is asked to; `dev/` and the test folders are small and fixed; `read/` has the pronunciations of
all sentences of training and of those that are only read. Every shard has its own seed, and an interrupted run goes on with
the shard where it stopped. Another run says the same things, but not to the sample: the synthesizers keep state.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from . import festival, shards, text
from .layout import SAMPLE_RATE, WINDOW, Work
from .voices import TRAINED, Speakers, Utterance, trim

SHARD = 500
"""Utterances in a shard: about half an hour."""

CLIPS = 200
"""Utterances of each kind of text in dev and in each test folder."""

READ_SHARD = 20_000
"""Pronunciations in a shard."""

TWICE = "WordNet"
"""The source whose sentences are pronounced twice: a fifth of what is read, but two thirds of the free sentences of dev and
test, and their words are the rarest."""

LONGEST = WINDOW - 0.6
"""Seconds. A longer utterance does not fit into a window with its surroundings, and is dropped."""


Speak = Callable[[list[str], Random], list[Utterance | None]]
"""Speaks sentences in voices drawn at random."""


def fits(utterance: Utterance | None) -> bool:
    return utterance is not None and 0.3 < len(utterance.samples) / SAMPLE_RATE < LONGEST


def make_train(work: Work, hours: float, seed: int) -> None:
    """Makes shards until there are so many hours. Every sentence is spoken once before any is spoken
    twice, also when there are more sentences than there were for the first shards."""
    texts = [row["text"] for row in text.load(work, "train")]
    spoken: Counter[str] = Counter()
    speakers, made, number, begun = Speakers(), 0.0, 0, time.time()
    while made < hours:
        path = work.speech / "train" / f"{number:05d}"
        known = path.with_suffix(".json").exists()
        if not known:
            r = Random(f"{seed}/train/{number}")
            chosen = heapq.nsmallest(SHARD, texts, key=lambda text: (spoken[text], r.random()))
            spoken.update(chosen)  # those that do not fit, too: once is enough
            shards.write(
                path, [utterance for utterance in (speakers.speak(text, r, TRAINED) for text in chosen) if fits(utterance)]
            )
        shard = shards.read(path)
        if known:
            spoken.update(row["text"] for row in shard.rows)
        made += len(shard.samples) / SAMPLE_RATE / 3600
        number += 1
        if made >= hours or (number % 4 == 0 and not known):
            print(f"speech: train: {made:.2f} of {hours:g} h, {time.time() - begun:.0f} s", flush=True)


def make_read(work: Work, seed: int) -> None:
    """Makes the pronunciations: of every sentence one, and of those of TWICE another."""
    rows = [row for part in ("train", "read") for row in text.load(work, part)]
    again = [row for row in rows if row["source"].startswith(TWICE)]
    for part in (rows, again):
        Random(f"{seed}/read").shuffle(part)
    texts = [row["text"] for row in rows + again]
    speakers, begun = Speakers(), time.time()
    for number, first in enumerate(range(0, len(texts), READ_SHARD)):
        path = work.speech / "read" / f"{number:05d}"
        chosen = texts[first : first + READ_SHARD]
        if path.with_suffix(".json").exists() and [p.text for p in shards.read_pronunciations(path)] == chosen:
            continue  # else it is of other text
        shards.write_pronunciations(path, speakers.pronounce(chosen, Random(f"{seed}/read/{number}")))
        print(f"speech: read: {first + len(chosen):,} of {len(texts):,}, {time.time() - begun:.0f} s", flush=True)


def fixed(work: Work, name: str, part: str, seed: int, speak: Speak) -> None:
    """A fixed folder with CLIPS sentences of free text and as many made ones, of a part of the corpus."""
    for kind in ("free", "made"):
        path = work.speech / name / kind
        if path.with_suffix(".json").exists():
            continue
        texts = [row["text"] for row in text.load(work, part) if row["kind"] == kind][: CLIPS + 60]
        utterances = [u for u in speak(texts, Random(f"{seed}/{name}/{kind}")) if fits(u)]
        shards.write(path, utterances[:CLIPS])
        print(f"speech: {name}: {kind}: {min(len(utterances), CLIPS)} clips", flush=True)


def festival_speech(texts: list[str], r: Random) -> list[Utterance | None]:
    spoken: list[Utterance | None] = []
    for voice in festival.VOICES:
        share = [sentence for index, sentence in enumerate(texts) if index % 2 == festival.VOICES.index(voice)]
        for sentence, samples in zip(share, festival.speak_all(share, voice), strict=True):
            trimmed = trim(samples, [])
            if trimmed:
                spoken.append(Utterance(sentence, f"festival:{voice}", *trimmed))
    r.shuffle(spoken)
    return spoken


def make_fixed(work: Work, seed: int) -> None:
    """Makes the speech for dev and test."""
    speakers = Speakers()

    def seen(texts: list[str], r: Random) -> list[Utterance | None]:
        return [speakers.speak(sentence, r) for sentence in texts]

    def variants(texts: list[str], r: Random) -> list[Utterance | None]:
        return [speakers.speak(sentence, r, unseen_variant=True) for sentence in texts]

    fixed(work, "dev", "dev", seed, seen)
    fixed(work, "test-seen", "test", seed, seen)
    fixed(work, "test-variants", "test", seed, variants)
    fixed(work, "test-engine", "test", seed, festival_speech)


def folders(work: Work) -> dict[str, Path]:
    """The test folders by what they test."""
    names = {"seen voices": "test-seen", "unseen variants": "test-variants", "unseen engine": "test-engine"}
    return {title: work.speech / name for title, name in names.items()}
