"""What both systems made of the recordings. faster-whisper's answers are kept: the same files give the same words again."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from measure.processes import PLAIN_HOST
from measure.systems import Heard, ours, theirs

from .recordings import Recording

KEPT = Path(".tools/accuracy")
#: Recordings that are sent to each at the same time. faster-whisper has a worker of one thread for each.
AT_ONCE = 2
#: Sets of which the times of segments are looked at too. With the others the host is asked as by default, for words alone.
WITH_TIMES = ["long", "half-hour", "gaps"]


def of_ours(model: Path, precision: str, state: Path, beams: list[int], recordings: list[Recording]) -> dict[int, list[Heard]]:
    """For each width of the beam, an answer to each recording."""
    with ours(model, precision, state, PLAIN_HOST) as system:
        return {beam: ask(system.transcribe, recordings, beam, f"whisper-host {model.name} {precision}") for beam in beams}


def of_theirs(model: Path, precision: str, beams: list[int], recordings: list[Recording]) -> dict[int, list[Heard]]:
    """The same of faster-whisper, as far as it is not known."""
    kept = {beam: [kept_answer(model, precision, beam, recording) for recording in recordings] for beam in beams}
    missing = {beam: [r for r, file in zip(recordings, files, strict=True) if not file.exists()] for beam, files in kept.items()}
    if any(missing.values()):
        KEPT.mkdir(parents=True, exist_ok=True)
        with theirs(model, precision, threads=1, workers=AT_ONCE) as system:
            for beam, recordings_left in missing.items():
                heard = ask(system.transcribe, recordings_left, beam, f"faster-whisper {model.name} {precision}")
                for recording, answer in zip(recordings_left, heard, strict=True):
                    kept_answer(model, precision, beam, recording).write_text(json.dumps(asdict(answer)))
    return {beam: [Heard(**json.loads(file.read_text())) for file in files] for beam, files in kept.items()}


def ask(transcribe: Callable, recordings: list[Recording], beam: int, who: str) -> list[Heard]:
    """In bundles of one set, language and knowledge of the language, the progress on standard error."""
    bundles: dict[tuple, list[int]] = {}
    for number, recording in enumerate(recordings):
        bundles.setdefault((recording.set, recording.language, recording.language_known), []).append(number)
    answers: dict[int, Heard] = {}
    for (name, language, known), numbers in bundles.items():
        files = [recordings[number].path for number in numbers]
        options = {"language": language if known else None, "beam_size": beam}
        if name in WITH_TIMES:
            options["timestamps"] = "segment"
        heard, seconds = transcribe(files, at_once=AT_ONCE, **options)
        answers |= zip(numbers, heard, strict=True)
        print(f"{who}, beam {beam}: {name} {language}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return [answers[number] for number in range(len(recordings))]


def kept_answer(model: Path, precision: str, beam: int, recording: Recording) -> Path:
    """The file for an answer, named by all that it depends on."""
    key = [
        version("faster-whisper"),
        version("ctranslate2"),
        digest(Path("bench/peer.py")),
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
