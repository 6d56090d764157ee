"""The text step: sentences from the sources and templates, cleaned, without duplicates, split by document.

Writes `train.jsonl`, `dev.jsonl` and `test.jsonl`, one `{"text", "source", "kind"}` a line; `kind` is `free` or `made`. And
`read.jsonl`, more sentences and lists of words for training, which are read and never spoken.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from . import layout, sources, templates
from .layout import Work

MADE = 60_000
"""Sentences from templates. Free text has twice as many, and three times the words."""

DEV, TEST = 0.02, 0.02
"""Shares of the documents."""

SHINGLE = 4
"""A free sentence of dev or test is a near-duplicate when over half of its runs of this many words occur in training."""

LISTS = 3
"""How often each word of the spelling list stands in a list of words. A word of the test sentences may be in no other
text; how it is written has to be learned somewhere."""

LISTED = "lists of words"
"""What such a list has for its source."""

ALLOWED = re.compile(r"[A-Za-z',.?!;:\- ]+")
TYPOGRAPHY = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2026": ".", "\u00a0": " "})


def split_sentences(paragraph: str) -> list[str]:
    paragraph = re.sub(r"\s+", " ", paragraph).strip()
    return re.split(r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<=[.!?])[\"')]*\s+(?=[\"'(]?[A-Z])", paragraph)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def clean(sentence: str, spelling: set[str]) -> str | None:
    """The sentence as it is to be spoken and written; none when a voice could not read all of it as it stands.

    Only known words are kept: a synthesizer guesses at others, and the label would be wrong.
    """
    text = sentence.translate(TYPOGRAPHY)
    text = re.sub(r"\s*(?:\u2014|\u2013|--| - )\s*", ", ", text)
    text = re.sub(r"\s*[\[(][^\])]*[\])]", "", text)
    text = re.sub(r'["_*]', "", text)
    text = re.sub(r"(^|\s)'|'(?=[\s,.?!;:]|$)", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" ,;:-")
    text = re.sub(r" ([,.?!;:])", r"\1", text)
    text = re.sub(r"[,;:]+(?=[,;:.?!])", "", text)
    text = re.sub(r"([.?!])[.?!,;:]+", r"\1", text)
    if not ALLOWED.fullmatch(text) or len(text) > 160:
        return None
    tokens = re.findall(r"[A-Za-z'\-]+", text)
    if not 2 <= len(tokens) <= 26:
        return None
    for token in tokens:
        if len(token) > 1 and token.isupper():
            return None
        for part in filter(None, token.split("-")):
            stem = part.removesuffix("'s")
            if not {part, part.lower(), stem, stem.lower()} & spelling:
                return None
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text.rstrip(",;:-'") + "."


def sentences(source: sources.Source, root: Path, spelling: set[str]) -> Iterator[tuple[str, str]]:
    """A source's sentences that can be spoken as they stand, each with the name of its document."""
    for document, paragraphs in source.read(root):
        for sentence in (s for paragraph in paragraphs for s in split_sentences(paragraph)):
            text = clean(sentence, spelling)
            if text:
                yield document, text


def spoken(text: str) -> str:
    """What sounds the same is the same sentence, whatever its case and punctuation."""
    return " ".join(words(text))


def split_of(document: str) -> str:
    """Which part a document belongs to: the same for ever, whatever else is in the corpus."""
    share = int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big") / 2**32
    return "test" if share < TEST else "dev" if share < TEST + DEV else "train"


def shingles(text: str) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {tuple(tokens[i : i + SHINGLE]) for i in range(max(1, len(tokens) - SHINGLE + 1))}


def collect(root: Path, seed: int) -> dict[str, list[dict[str, str]]]:
    """All sentences by part. A sentence belongs to the first document that has it."""
    spelling = set(sources.spelling(root))
    parts: dict[str, list[dict[str, str]]] = {"train": [], "dev": [], "test": []}
    seen: set[str] = set()

    def add(part: str, text: str, source: str, kind: str) -> bool:
        if spoken(text) in seen:
            return False
        seen.add(spoken(text))
        parts[part].append({"text": text, "source": source, "kind": kind})
        return True

    for source in sources.SOURCES:
        for document, text in sentences(source, root, spelling):
            add(split_of(f"{source.name}/{document}"), text, source.name, "free")
    r = Random(seed)
    made = 0
    while made < MADE:
        text, kind = templates.sentence(r)
        made += add(split_of(text), text, f"templates: {kind}", "made")

    known = set().union(*(shingles(row["text"]) for row in parts["train"] if row["kind"] == "free"))
    for part in ("dev", "test"):
        kept = []
        for row in parts[part]:
            runs = shingles(row["text"])
            if row["kind"] == "made" or len(runs & known) <= len(runs) / 2:
                kept.append(row)
        parts[part] = kept
    for rows in parts.values():
        r.shuffle(rows)
    return parts


def lists(words_of: list[str], r: Random) -> list[str]:
    """Every word that a voice reads as it stands, LISTS times, in lists of a few that mean nothing together."""
    plain = [word for word in words_of if re.fullmatch(r"[A-Z]?[a-z]+", word) and re.search(r"[aeiouy]", word)]
    made = []
    for _ in range(LISTS):
        r.shuffle(plain)
        first = 0
        while first < len(plain):
            count = r.randint(3, 7)
            text = r.choice([" ", " ", ", "]).join(plain[first : first + count])
            made.append(f"{text[0].upper()}{text[1:]}.")
            first += count
    return made


def collect_read(root: Path, parts: dict[str, list[dict[str, str]]], r: Random) -> list[dict[str, str]]:
    """What is only read. No run of SHINGLE words of a dev or test sentence is in it, and no sentence of training."""
    spelling = sources.spelling(root)
    seen = {spoken(row["text"]) for rows in parts.values() for row in rows}
    held_back = set().union(*(shingles(row["text"]) for part in ("dev", "test") for row in parts[part]))
    rows = []
    for source in sources.READ_ONLY:
        for _, text in sentences(source, root, set(spelling)):
            if spoken(text) not in seen and not shingles(text) & held_back:
                seen.add(spoken(text))
                rows.append({"text": text, "source": source.name, "kind": "free"})
    rows += [{"text": text, "source": LISTED, "kind": "list"} for text in lists(spelling, r)]
    r.shuffle(rows)
    return rows


def write(work: Work, part: str, rows: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    layout.write(work.text / f"{part}.jsonl", lines)
    counts = Counter(row["source"] for row in rows)
    total = sum(len(words(row["text"])) for row in rows)
    print(f"text: {part}: {len(rows):,} sentences, {total:,} words; {dict(counts.most_common())}", flush=True)


def make(work: Work, seed: int, read: bool) -> None:
    """Writes the files that are not there; what is only read if `read`."""
    speaking = not (work.text / "test.jsonl").exists()
    reading = read and not (work.text / "read.jsonl").exists()
    if not speaking and not reading:
        print("text: done before", flush=True)
        return
    root = sources.fetch(work.packages, sources.SOURCES + (sources.READ_ONLY if reading else []))
    work.text.mkdir(parents=True, exist_ok=True)
    if speaking:
        for part, rows in collect(root, seed).items():
            write(work, part, rows)
    if reading:
        parts = {part: load(work, part) for part in ("train", "dev", "test")}
        write(work, "read", collect_read(root, parts, Random(f"{seed}/read")))


def load(work: Work, part: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (work.text / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
