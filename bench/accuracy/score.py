"""Word errors after Whisper's own normalisation of text, and how sure their difference is."""

from dataclasses import dataclass

import jiwer
import numpy
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

ENGLISH = EnglishTextNormalizer()
#: Without accents: the texts of the Spanish prompts are written without them.
OTHERS = BasicTextNormalizer(remove_diacritics=True)
#: Draws of the bootstrap.
DRAWS = 10_000


def normalised(text: str, language: str) -> str:
    return " ".join((ENGLISH if language == "en" else OTHERS)(text).split())


@dataclass
class Errors:
    """In one text, a prompt or a sentence."""

    words: int
    wrong: int = 0
    inserted: int = 0


def errors(texts: tuple[str, ...], heard: str, language: str) -> list[Errors]:
    """Of each text. Where several texts are one recording, its words are aligned as a whole, and an error counts for the
    text in which it lies."""
    expected = [normalised(text, language).split() for text in texts]
    owner = [number for number, words in enumerate(expected) for _ in words]
    found = [Errors(len(words)) for words in expected]
    aligned = jiwer.process_words(" ".join(word for words in expected for word in words), normalised(heard, language))
    for chunk in aligned.alignments[0]:
        if chunk.type == "insert":
            count = chunk.hyp_end_idx - chunk.hyp_start_idx
            text = found[owner[min(chunk.ref_start_idx, len(owner) - 1)]]
            text.wrong += count
            text.inserted += count
        elif chunk.type != "equal":
            for word in range(chunk.ref_start_idx, chunk.ref_end_idx):
                found[owner[word]].wrong += 1
    return found


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same texts. Rates are errors over words; the difference is ours less theirs, with its 95 %
    interval."""

    words: int
    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    ours_inserted: int
    theirs_inserted: int


def compare(ours: list[Errors], theirs: list[Errors]) -> Comparison:
    """Paired bootstrap: texts are drawn anew, with the errors that both made in them."""
    words = numpy.array([text.words for text in ours])
    our_wrong, their_wrong = (numpy.array([text.wrong for text in found]) for found in (ours, theirs))
    drawn = numpy.random.default_rng(0).integers(len(words), size=(DRAWS, len(words)))
    differences = (our_wrong - their_wrong)[drawn].sum(axis=1) / words[drawn].sum(axis=1)
    low, high = numpy.percentile(differences, [2.5, 97.5])
    total = int(words.sum())
    return Comparison(
        words=total,
        ours=our_wrong.sum() / total,
        theirs=their_wrong.sum() / total,
        difference=(our_wrong.sum() - their_wrong.sum()) / total,
        low=float(low),
        high=float(high),
        ours_inserted=sum(text.inserted for text in ours),
        theirs_inserted=sum(text.inserted for text in theirs),
    )
