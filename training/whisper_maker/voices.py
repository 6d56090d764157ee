"""Which voices speak for training, and which are kept for testing.

- seen: espeak-ng in several accents with most of its variants, and the five voices of flite;
- unseen variants: five variants of espeak-ng;
- unseen engine: festival (`festival.VOICES`).
"""

from dataclasses import dataclass
from random import Random

import numpy as np

from .espeak import Espeak
from .flite import PITCHES, Flite

ACCENTS = {"en-us": 5, "en": 2, "en-gb-x-rp": 1, "en-gb-scotland": 1, "en-029": 1, "en-gb-x-gbclan": 1}
"""Accents of espeak-ng and their weights; the most common one leads."""

VARIANTS = (
    "f1 f2 f3 f4 m1 m2 m3 m4 m5 m6 m8 klatt klatt2 klatt3 klatt4 klatt5 Alex Alicia Andrea Andy Annie Denis Diogo Gene2 "
    "Henrique Hugo Jacky Lee Marco Mario Michael Mike RicishayMax RicishayMax2 RicishayMax3 adam announcer antonio aunty "
    "benjamin boris caleb david ed edward edward2 grandma grandpa gustave iven iven2 iven3 iven4 john linda marcelo max "
    "michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3 victor"
).split()
"""Variants that a listener can follow. The whispering, croaking and robot ones are left out."""

UNSEEN_VARIANTS = ("f5", "m7", "Gene", "anika", "belinda")


@dataclass(frozen=True)
class Shares:
    """Of espeak-ng and of flite's two diphone voices; flite's three recorded voices have the rest. They are the ones that
    sound like people, but they take seven times as long to make."""

    espeak: float
    diphone: float


TESTED, TRAINED = Shares(0.55, 0.18), Shares(0.3, 0.2)
"""In dev and test, and in what is heard in training. The recorded voices were the worst understood of the known ones when
they had a quarter of both."""


ESPEAK_READ = 0.5
"""Share of espeak-ng in what is read."""


@dataclass
class Utterance:
    """A sentence as it was spoken: `samples` int16 at 16 kHz, and `(start in seconds, phoneme)` for the engine's own
    phonemes; a phoneme lasts until the next one."""

    text: str
    voice: str
    samples: np.ndarray
    phonemes: list[tuple[float, str]]


@dataclass
class Pronunciation:
    """A sentence as an engine would speak it: the engine's own phonemes, without times."""

    text: str
    engine: str
    phonemes: list[str]


PEAK = 16_000
"""Loudest sample of every utterance, of 32,768."""

QUIET = PEAK * 0.015
MARGIN = 800
"""Samples below QUIET at both ends are cut off, but for this many."""


def trim(samples: np.ndarray, phonemes: list[tuple[float, str]]) -> tuple[np.ndarray, list[tuple[float, str]]] | None:
    """Brings the loudest sample to PEAK and cuts the silence off both ends; none when there is nothing to hear."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak < 100:
        return None
    samples = samples * (PEAK / peak)
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    start, end = max(0, int(loud[0]) - MARGIN), min(len(samples), int(loud[-1]) + MARGIN)
    shift = start / 16_000
    kept = [(max(0.0, time - shift), label) for time, label in phonemes if time < end / 16_000]
    return samples[start:end].astype(np.int16), kept


class Speakers:
    """Speaks a sentence in a voice drawn at random."""

    def __init__(self) -> None:
        self.espeak, self.flite = Espeak(), Flite()

    def speak(self, text: str, r: Random, shares: Shares = TESTED, unseen_variant: bool = False) -> Utterance | None:
        """None when the synthesizer said nothing."""
        draw = r.random()
        if unseen_variant or draw < shares.espeak:
            if unseen_variant:
                name = f"{r.choice(['en-us', 'en'])}+{r.choice(UNSEEN_VARIANTS)}"
            else:
                name = f"{r.choices(list(ACCENTS), list(ACCENTS.values()))[0]}+{r.choice(VARIANTS)}"
            spoken = self.espeak.speak(text, name, r.randint(130, 220), r.randint(25, 75), r.randint(25, 80))
            engine = "espeak"
        else:
            diphone = draw < shares.espeak + shares.diphone
            name = r.choice(["kal", "kal16"] if diphone else ["awb", "rms", "slt"])
            spoken = self.flite.speak(text, name, r.uniform(0.8, 1.25), r.uniform(*PITCHES[name]))
            engine = "flite"
        trimmed = trim(*spoken)
        return Utterance(text, f"{engine}:{name}", *trimmed) if trimmed else None

    def pronounce(self, texts: list[str], r: Random) -> list[Pronunciation]:
        """Each sentence by an engine and an accent drawn at random."""
        voices = [r.choices(list(ACCENTS), list(ACCENTS.values()))[0] if r.random() < ESPEAK_READ else None for _ in texts]
        made: list[Pronunciation | None] = [None] * len(texts)
        for index in sorted(range(len(texts)), key=lambda index: voices[index] or ""):  # changing accents takes time
            text, voice = texts[index], voices[index]
            phonemes = self.espeak.pronounce(text, voice) if voice else self.flite.pronounce(text)
            made[index] = Pronunciation(text, "espeak" if voice else "flite", phonemes)
        return made
