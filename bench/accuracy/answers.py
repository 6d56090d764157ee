"""What both systems made of the recordings. faster-whisper's answers are kept: the same files give the same words again."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from measure.processes import PLAIN_HOST
from measure.systems import Heard, Ours, Theirs, ours, theirs

from .recordings import Recording

KEPT = Path(".tools/accuracy")
#: Recordings that are sent to each at the same time. faster-whisper has a worker of one thread for each.
AT_ONCE = 2
#: Sets of which the times of segments are looked at too. With the others the host is asked as by default, for words alone.
WITH_TIMES = ["long", "half-hour", "gaps"]


def of_ours(
    model: Path, precision: str, state: Path, beams: list[int], recordings: list[Recording]
) -> dict[int, list[Heard]]:
    """For each width of the beam, an answer to each recording."""
    with ours(model, precision, state, PLAIN_HOST) as system:
        answers = {beam: dict(ask(system, f"{model.name} {precision}", recordings, beam)) for beam in beams}
    return {beam: [answers[beam][recording] for recording in recordings] for beam in beams}


def of_theirs(model: Path, precision: str, beams: list[int], recordings: list[Recording]) -> dict[int, list[Heard]]:
    """The same of faster-whisper. What is not known yet is asked for, and kept as it comes."""
    kept = {beam: {recording: kept_answer(model, precision, beam, recording) for recording in recordings} for beam in beams}
    if not all(file.exists() for files in kept.values() for file in files.values()):
        KEPT.mkdir(parents=True, exist_ok=True)
        with theirs(model, precision, threads=1, workers=AT_ONCE) as system:
            for beam, files in kept.items():
                missing = [recording for recording, file in files.items() if not file.exists()]
                for recording, answer in ask(system, f"{model.name} {precision}", missing, beam):
                    files[recording].write_text(json.dumps(asdict(answer)))
    return {
        beam: [Heard(**json.loads(files[recording].read_text())) for recording in recordings] for beam, files in kept.items()
    }


def ask(system: Ours | Theirs, model: str, recordings: list[Recording], beam: int) -> Iterator[tuple[Recording, Heard]]:
    """In bundles of one set and language, with the progress on standard error."""
    for (name, language, known), bundle in groupby(recordings, lambda one: (one.set, one.language, one.language_known)):
        bundle = list(bundle)
        options = {"language": language if known else None, "beam_size": beam}
        if name in WITH_TIMES:
            options["timestamps"] = "segment"
        heard, seconds = system.transcribe([recording.path for recording in bundle], at_once=AT_ONCE, **options)
        print(f"{system.name}, {model}, beam {beam}: {name} {language}, {seconds:.0f} s", file=sys.stderr, flush=True)
        yield from zip(bundle, heard, strict=True)


def kept_answer(model: Path, precision: str, beam: int, recording: Recording) -> Path:
    """The file for an answer, named by all that it depends on."""
    key = [
        version("faster-whisper"),
        version("ctranslate2"),
        digest(model / "model.bin"),
        precision,
        str(beam),
        recording.language if recording.language_known else "",
        digest(recording.path),
    ]
    return KEPT / f"{hashlib.sha256(' '.join(key).encode()).hexdigest()}.json"


DIGESTS: dict[Path, str] = {}


def digest(path: Path) -> str:
    if path not in DIGESTS:
        with path.open("rb") as file:
            DIGESTS[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return DIGESTS[path]
