"""The recordings that words are counted on: what people said, from packages of Debian, and the exact texts.

The prompts of a telephone exchange, some 500 in each of four languages, and sentences of a LibriVox reader. Chosen by
rules and by the hash of their names, so that every machine takes the same.
"""

import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import wave
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy

from .sound import COLOURS, coloured, samples, write

FOLDER = Path(".tools/speech")
VOICES = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June", "es": "es_MX_f_Allison", "it": "it_IT_m_Carlo"}
PACKAGES = [
    "pocketsphinx-testdata",
    *(f"asterisk-core-sounds-{language}{form}" for language in VOICES for form in ("", "-wav")),
]
#: Of the prompts.
RATE = 8_000
#: Prompts of a language, more of English, as some models know no other; their texts have at least so many characters, which
#: leaves out single words.
PROMPTS = {"en": 120, "fr": 40, "es": 40, "it": 40}
LEAST_TEXT = 40
#: Prompts of a long file.
LONG = 40
#: Seconds between two prompts of a long file.
PAUSE = 0.6
#: Files of speech with silences, five minutes each.
STRETCHES = ["en", "fr", "es", "it", "en", "fr"]
STRETCH = 300.0
#: Seconds between sentences in the file with gaps, and of noise before speech.
GAP = 40.0
LEAD = 30.0


@dataclass(frozen=True)
class Recording:
    """A file, and what is said in it: one text for each prompt or sentence."""

    set: str
    language: str
    path: Path
    texts: tuple[str, ...]
    #: Whether a caller would say which language it is.
    language_known: bool = True

    @property
    def seconds(self) -> float:
        with wave.open(str(self.path)) as file:
            return file.getnframes() / file.getframerate()


def fetch() -> dict[str, str]:
    """Fetches and unpacks what is missing; the packages' versions."""
    stamp = FOLDER / "PACKAGES"
    if not stamp.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise SystemExit(
                "error: no apt-get: the recordings are packages of Debian. On another system unpack these into "
                f"{FOLDER} (each holds a data.tar), and write `package version` lines into {stamp}:\n  "
                + "\n  ".join(PACKAGES)
            )
        print(f"fetching recordings of people into {FOLDER}, 80 MB", file=sys.stderr, flush=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        run("apt-get", "download", *PACKAGES, cwd=FOLDER)
        versions = []
        for package in sorted(FOLDER.glob("*.deb")):
            run("dpkg-deb", "-x", str(package), str(FOLDER))
            versions.append(run("dpkg-deb", "-W", str(package)).replace("\t", " "))
            package.unlink()
        stamp.write_text("".join(versions))
    return dict(line.split(maxsplit=1) for line in stamp.read_text().splitlines())


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {command[0]} failed; is the package list fresh (apt-get update)?\n{done.stderr.strip()}")
    return done.stdout


def prompts(language: str) -> list[tuple[Path, str]]:
    """All prompts of a language that are sentences, in the order of their names' hashes."""
    share = FOLDER / "usr/share"
    listed = gzip.decompress((share / f"doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz").read_bytes())
    found = {}
    for line in listed.decode("utf-8-sig", errors="replace").splitlines():
        name, colon, text = (part.strip() for part in line.partition(":"))
        path = share / f"asterisk/sounds/{VOICES[language]}/{name}.wav"
        # A text in brackets describes a sound.
        if line.startswith(";") or not colon or len(text) < LEAST_TEXT or re.search(r"[\[(<{]", text) or not path.exists():
            continue
        found[name] = (path, text)
    return [found[name] for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())]


def one_by_one() -> list[Recording]:
    return [
        Recording("prompts", language, path, (text,))
        for language, count in PROMPTS.items()
        for path, text in prompts(language)[:count]
    ]


def librivox() -> list[Recording]:
    folder = FOLDER / "usr/share/pocketsphinx/test/data/librivox"
    lines = (folder / "transcription").read_text().splitlines()
    said = [match for line in lines if (match := re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip()))]
    return [Recording("librivox", "en", folder / f"{match[2]}.wav", (match[1],)) for match in said]


def project() -> list[Recording]:
    """The five recordings of the project's tests, synthetic voices."""
    folder = Path("test/audio")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in {".mp3", ".wav", ".flac", ".ogg", ".m4a"}]
    return [Recording("project", "en", path, (path.with_suffix(".txt").read_text().strip(),)) for path in files]


def long(folder: Path) -> list[Recording]:
    """The same prompts, many in one file."""
    made = []
    pause = numpy.zeros(int(PAUSE * RATE))
    for language, count in PROMPTS.items():
        for first in range(0, count, LONG):
            chosen = prompts(language)[first : first + LONG]
            parts = [part for path, _ in chosen for part in (samples(path), pause)]
            path = write(folder / f"long-{language}-{first // LONG + 1}.wav", RATE, parts)
            made.append(Recording("long", language, path, tuple(text for _, text in chosen)))
    return made


def half_hour(folder: Path) -> list[Recording]:
    """Six files of five minutes, of the prompts from the 41st on, with silences of up to 15 s between them: digital
    silence, or by turns the soft noise of a line."""
    rest = {language: iter(prompts(language)[LONG:]) for language in VOICES}
    draw = numpy.random.default_rng(1)
    made = []
    for number, language in enumerate(STRETCHES):
        parts, texts, seconds = [], [], 0.0
        while seconds < STRETCH:
            path, text = next(rest[language])
            pause = draw.choice([0.4, 1.0, 3.0, 15.0], p=[0.4, 0.35, 0.2, 0.05])
            parts += [samples(path), numpy.zeros(int(pause * RATE))]
            texts.append(text)
            seconds += len(parts[-2]) / RATE + pause
        joined = numpy.concatenate(parts)
        if number % 2:
            joined = joined + draw.normal(0, 20, len(joined))
        path = write(folder / f"half-hour-{number + 1}-{language}.wav", RATE, [joined])
        made.append(Recording("half-hour", language, path, tuple(texts)))
    return made


def gaps(folder: Path) -> list[Recording]:
    """LibriVox sentences with 40 s of silence between them."""
    sentences = librivox()
    parts = [part for sentence in sentences for part in (samples(sentence.path), numpy.zeros(int(GAP * 16_000)))]
    path = write(folder / "gaps-en.wav", 16_000, parts)
    return [Recording("gaps", "en", path, tuple(sentence.texts[0] for sentence in sentences))]


def after_noise(folder: Path) -> list[Recording]:
    """Half a minute of noise before six prompts, the language not given: 12 files."""
    made = []
    for language in VOICES:
        for number, (name, slope) in enumerate(COLOURS.items()):
            chosen = list(islice(prompts(language), 6 * number, 6 * number + 6))
            parts = [coloured(slope, LEAD, RATE, level=-30.0)]
            parts += [part for path, _ in chosen for part in (samples(path), numpy.zeros(int(PAUSE * RATE)))]
            path = write(folder / f"after-{name}-{language}.wav", RATE, parts)
            texts = tuple(text for _, text in chosen)
            made.append(Recording("after-noise", language, path, texts, language_known=False))
    return made
