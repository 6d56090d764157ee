"""The texts that the sentences come from: Debian packages under free licences, each with its licence.

Packages are fetched with `apt-get download` and unpacked beside the other work files; nothing is installed. A source is
read as documents, because the split into training and test keeps documents whole.
"""

import gzip
import html
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Documents = Iterator[tuple[str, list[str]]]
"""Pairs of a document's name and its paragraphs."""


@dataclass(frozen=True)
class Source:
    """A text: what it is called, the packages it is in, its licence as their copyright files state it, how to read it."""

    name: str
    packages: tuple[str, ...]
    licence: str
    read: Callable[[Path], Documents]


def glosses(root: Path) -> Iterator[tuple[str, int, str]]:
    """WordNet's entries: part of speech, offset, and the gloss, which is definitions and examples in quotes."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (root / f"usr/share/wordnet/data.{part}").read_text(encoding="utf-8", errors="ignore").splitlines():
            offset, bar, gloss = line.partition(" ")[0], line.find("|"), line.partition("|")[2]
            if bar >= 0 and offset.isdigit():
                yield part, int(offset), gloss


def definitions(gloss: str) -> list[str]:
    return re.sub(r'"[^"]*"', "", gloss).split(";")


def wordnet(root: Path) -> Documents:
    """Example sentences, and one definition in four: definitions are no sentences, but their words are rare ones."""
    for part, offset, gloss in glosses(root):
        yield f"{part}/{offset:08}", re.findall(r'"([^"]+)"', gloss) + (definitions(gloss) if offset % 4 == 0 else [])


def wordnet_definitions(root: Path) -> Documents:
    """The other definitions."""
    for part, offset, gloss in glosses(root):
        if offset % 4:
            yield f"{part}/{offset:08}", definitions(gloss)


def gcide(root: Path) -> Documents:
    """Definitions and examples of a large dictionary, without headwords, etymologies and the names of those it quotes."""
    with gzip.open(root / "usr/share/dictd/gcide.dict.dz", "rt", encoding="utf-8", errors="ignore") as file:
        for number, paragraph in enumerate(re.split(r"\n\s*\n", file.read())):
            text = re.sub(r"\[[^\]]*\]|--\s?[A-Z][A-Za-z. ]*|[{}]|^\s*\d+\.", " ", paragraph)
            text = re.sub(r"^\S[^\\]*\\[^\\]*\\,?(?:\s+(?:[a-z]+\.|&))*", " ", text)
            yield str(number), re.split(r"[;:]|\bas,", text)


def commentary(name: str) -> Callable[[Path], Documents]:
    """The prose of a commentary, sentences and what stands between their semicolons and colons."""

    def read(root: Path) -> Documents:
        for block, text in sword(root / "usr/share/sword/modules/comments/zcom" / name):
            text = re.sub(r"(?s)<(title|table|reference)\b.*?</\1>", " ", text)
            text = re.sub(r"<div\b[^>]*>", "\n", text)
            yield block, re.split(r"[;:\n]", re.sub(r"<[^>]+>", "", text))

    return read


def endless_sky(root: Path) -> Documents:
    """What is told and said in a game's missions."""
    for file in sorted((root / "usr/share/games/endless-sky/data").glob("*.txt")):
        text = file.read_text(encoding="utf-8", errors="ignore")
        yield file.stem, re.findall(r"`\s*([^`]+)`", text)


def wesnoth(root: Path) -> Documents:
    """What the characters of the campaigns say, and the tale between the scenarios: dialogue in natural English."""
    campaigns = root / "usr/share/games/wesnoth/1.16/data/campaigns"
    for file in sorted(campaigns.rglob("*.cfg")):
        text = file.read_text(encoding="utf-8", errors="ignore")
        spoken = re.findall(r'(?:message|story|description)\s*=\s*_\s*"((?:[^"]|"")*)"', text)
        if spoken:
            yield str(file.relative_to(campaigns)), [passage.replace('""', "'") for passage in spoken]


def crawl(root: Path) -> Documents:
    """Descriptions of creatures and things in a dungeon; its collection of quotations belongs to others and is left out."""
    for file in sorted((root / "usr/share/crawl/dat/descript").glob("*.txt")):
        if file.stem in {"quotes", "tutorial", "commands"}:
            continue
        for entry in file.read_text(encoding="utf-8", errors="ignore").split("%%%%"):
            name, _, body = entry.strip().partition("\n")
            yield f"{file.stem}/{name}", re.split(r"\n\s*\n", body)


def pages(*globs: str) -> Callable[[Path], Documents]:
    """Paragraphs and list items of HTML pages."""

    def read(root: Path) -> Documents:
        for file in sorted(path for glob in globs for path in root.glob(glob)):
            text = file.read_text(encoding="utf-8", errors="ignore")
            text = re.sub(r"(?is)<(script|style|pre)\b.*?</\1>", " ", text)
            text = re.sub(r"(?is)<(code|tt)\b.*?</\1>", " @ ", text)  # so that a sentence with code in it is dropped
            parts = re.findall(r"(?is)<(?:p|li|dd)\b[^>]*>(.*?)</(?:p|li|dd)>", text)
            yield file.stem, [html.unescape(re.sub(r"<[^>]+>", " ", part)) for part in parts]

    return read


def dictionary(name: str) -> Callable[[Path], Documents]:
    """The prose of a dictd dictionary; one paragraph is one document."""

    def read(root: Path) -> Documents:
        with gzip.open(root / f"usr/share/dictd/{name}.dict.dz", "rt", encoding="utf-8", errors="ignore") as file:
            for number, paragraph in enumerate(re.split(r"\n\s*\n", file.read())):
                yield str(number), [re.sub(r"^[A-Z' -]+, (?:n|v|adj|adv|v\.t|v\.i|p\.p|pp)\.", "", paragraph.strip())]

    return read


def novels(root: Path) -> Documents:
    """Jane Austen's six novels by chapter, out of an R data file: compressed blocks, in which each line is an element of
    type CHARSXP: flags, length, bytes (R Internals, 1.8)."""
    data = (root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    while data:
        block = zlib.decompressobj()
        raw = block.decompress(data[4:])
        data = block.unused_data
        elements = re.finditer(rb"\x00[\x00\x04]\x00\x09(\x00\x00..)", raw, re.DOTALL)
        lines = [raw[e.end() : e.end() + int.from_bytes(e[1], "big")].decode() for e in elements]
        for number, chapter in enumerate(re.split(r"(?mi)^(?:chapter|volume) .*$", "\n".join(lines))):
            yield f"{lines[0]}/{number}", re.split(r"\n\s*\n", chapter)


def sword(module: Path) -> Iterator[tuple[str, str]]:
    """The blocks (books or chapters) of a module of the Sword project, each in OSIS: an index of 12 bytes a block (offset,
    length compressed, length), and compressed blocks."""
    for part in ("ot", "nt"):
        (index,), (blocks,) = (list(module.glob(f"{part}.[bc]z{kind}")) for kind in "sz")
        compressed = blocks.read_bytes()
        for number, (start, size, _) in enumerate(struct.iter_unpack("<III", index.read_bytes())):
            yield f"{part}/{number}", zlib.decompress(compressed[start : start + size]).decode()


def bible(root: Path) -> Documents:
    """The World English Bible by book."""
    for block, text in sword(root / "usr/share/sword/modules/texts/ztext/engWEB2015eb"):
        text = re.sub(r"(?s)<(note|title)\b.*?</\1>", "", text)
        text = re.sub(r"<(?:div|lg|l|lb|chapter)\b[^>]*>", " ", text)
        yield block, re.sub(r"<[^>]+>", "", text).split("\n")


def fillets(root: Path) -> Documents:
    """What the two fish say to each other: small talk."""
    for file in sorted((root / "usr/share/games/fillets-ng/script").glob("*/dialogs_en.lua")):
        text = file.read_text(encoding="utf-8", errors="ignore")
        yield file.parent.name, re.findall(r'dialogId\("[^"]*", "[^"]*", "((?:[^"\\]|\\.)*)"', text)


CAMPAIGNS = "did dm dw ei httt l low nr sof sota sotbe thot trow tsg ttb utbs".split()

SOURCES = [
    Source("WordNet 3.0", ("wordnet-base",), "WordNet 3.0 licence", wordnet),
    Source("Battle for Wesnoth 1.16, campaigns", tuple(f"wesnoth-1.16-{name}" for name in CAMPAIGNS), "GPL-2+", wesnoth),
    Source("Jane Austen's novels", ("r-cran-janeaustenr",), "public domain, packaged under the MIT licence", novels),
    Source("World English Bible", ("sword-text-web",), "public domain", bible),
    Source("Fish Fillets NG, dialogues", ("fillets-ng-data",), "GPL-2", fillets),
    Source(
        "The Rust Programming Language and its companions",
        ("rust-doc",),
        "MIT or Apache-2.0",
        pages(*(f"usr/share/doc/rust-doc/html/{book}/*.html" for book in "book nomicon reference cargo/guide".split())),
    ),
    Source("Dungeon Crawl Stone Soup, descriptions", ("crawl-common",), "GPL-2+", crawl),
    Source("A Brief History of Debian", ("debian-history",), "GPL-2+", pages("usr/share/doc/debian-history/docs/*.en.html")),
    Source(
        "The Debian Administrator's Handbook",
        ("debian-handbook",),
        "GPL-2+ or CC-BY-SA-3.0",
        pages("usr/share/doc/debian-handbook/html/en-US/*.html"),
    ),
    Source("The Devil's Dictionary", ("dict-devil",), "public domain", dictionary("devil")),
    Source("The Jargon File 4.4.7", ("dict-jargon",), "public domain", dictionary("jargon")),
]

READ_ONLY = [
    Source("WordNet 3.0, its other definitions", ("wordnet-base",), "WordNet 3.0 licence", wordnet_definitions),
    Source("GNU Collaborative International Dictionary of English", ("dict-gcide",), "GPL-2+", gcide),
    Source("The Treasury of David", ("sword-comm-tdavid",), "public domain", commentary("tdavid")),
    Source("Matthew Henry's Concise Commentary", ("sword-comm-mhcc",), "public domain", commentary("mhcc")),
    Source("Endless Sky, missions", ("endless-sky-data",), "GPL-3+", endless_sky),
]
"""Sources of sentences that are read and never spoken: nothing in them is held back for testing."""

WORD_LIST = "wamerican"
"""The package with the spelling list that sentences are checked against."""

WORD_LIST_LICENCE = "public domain and permissive"


def spelling(root: Path) -> list[str]:
    """The spelling list, in its own order."""
    return (root / "usr/share/dict/american-english").read_text(encoding="utf-8").split()


def fetch(packages_dir: Path, wanted: list[Source]) -> Path:
    """Downloads and unpacks the packages of the `wanted` sources that are not there yet; returns the root of the unpacked
    tree."""
    root = packages_dir / "root"
    root.mkdir(parents=True, exist_ok=True)
    names = {WORD_LIST, *(package for source in wanted for package in source.packages)}
    missing = [name for name in sorted(names) if not (packages_dir / f"{name}.unpacked").exists()]
    if missing:
        print(f"text: fetching {len(missing)} packages", flush=True)
        for leftover in packages_dir.glob("*.deb"):
            leftover.unlink()
        subprocess.run(["apt-get", "download", "-q", *missing], cwd=packages_dir, check=True, stdout=subprocess.DEVNULL)
        for name in missing:
            (archive,) = packages_dir.glob(f"{name}_*.deb")
            subprocess.run(["dpkg", "-x", str(archive), str(root)], check=True)
            archive.unlink()
            (packages_dir / f"{name}.unpacked").touch()
    return root
