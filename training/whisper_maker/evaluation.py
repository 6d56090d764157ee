"""The evaluation step: the exported model, heard through the project's own host, as a user will hear it.

Word error rates by voice, noise and precision; times of segments; what is heard where nobody speaks. The test sentences
are looked at here and nowhere else. Of the exported model it writes `evaluation.json`, from which `card` is made.
"""

import json
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from . import errors, layout, nonspeech, shards, speech, text
from .layout import SAMPLE_RATE, TRAINING, WINDOW, Work

REPOSITORY = TRAINING.parent
HOST = REPOSITORY / "target/release/whisper-host"

PRECISIONS = ("int8", "fp32")
NOISES = {"clean": None, "20 dB": 20.0, "10 dB": 10.0}
"""White noise under the voice, as the ratio of their power."""

KINDS = ("story", "everyday")
"""Kinds of made sentences that get a row of their own."""

QUIET_CLIPS, PAIRS, EXAMPLES = 100, 100, 10
SPACE = 0.5
"""Seconds between the two sentences of a clip for times, and before the first."""

LEAD = 0.3
"""Seconds of silence around every clip."""


def answers(model: Path, precision: str, files: list[Path], *options: str) -> list[dict]:
    """The host's answer for each file."""
    if not HOST.exists():
        raise SystemExit("error: the host is not built: run `make build` first")
    command = [HOST, "transcribe", "--json", "--language", "en", "--model", model, "--precision", precision]
    command += ["--device", "cpu", "--log", "error", *options, *files]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if len(found) != len(files):
        raise SystemExit(f"error: the host answered {len(found)} of {len(files)} files")
    for answer in found:
        if "error" in answer:
            raise SystemExit(f"error: the host could not transcribe {answer['file']}: {answer['error']}")
    return found


def transcribe(model: Path, precision: str, clips: list[np.ndarray], *options: str) -> list[dict]:
    """The host's answer for each clip of float32 samples at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number:04d}.wav") for number in range(len(clips))]
        for file, samples in zip(files, clips, strict=True):
            with wave.open(str(file), "wb") as sink:
                sink.setnchannels(1)
                sink.setsampwidth(2)
                sink.setframerate(SAMPLE_RATE)
                sink.writeframes((np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes())
        return answers(model, precision, files, *options)


def padded(samples: np.ndarray) -> np.ndarray:
    """An utterance as float32 with silence around it."""
    return np.pad(samples.astype(np.float32) / 32768, round(LEAD * SAMPLE_RATE))


def with_noise(samples: np.ndarray, ratio: float | None, g: np.random.Generator) -> np.ndarray:
    if ratio is None:
        return samples
    power = float(np.mean(samples**2)) * 10 ** (-ratio / 10)
    return samples + (g.standard_normal(len(samples)) * np.sqrt(power)).astype(np.float32)


def words(model: Path, work: Work, clips: int | None) -> tuple[list[dict], dict[str, float], list[dict]]:
    """Error rates, one row for each voice, kind of text, noise and precision; those of free text with greedy decoding, by
    voice; and some examples."""
    rows, greedy, examples = [], {}, []
    sources = {row["text"]: row["source"] for row in text.load(work, "test")}
    for voices, folder in speech.folders(work).items():
        for path in shards.finished(folder):
            shard = shards.read(path)
            texts = [row["text"] for row in shard.rows][:clips]
            parts = {path.name: set(texts)}
            if path.name == "made":
                parts |= {kind: {said for said in texts if sources[said] == f"templates: {kind}"} for kind in KINDS}
            plain = [padded(shard.utterance_samples(index)) for index in range(len(texts))]
            for noise, ratio in NOISES.items():
                g = np.random.default_rng(1)
                noisy = [with_noise(samples, ratio, g) for samples in plain]
                for precision in PRECISIONS:
                    heard = [answer["transcription"] for answer in transcribe(model, precision, noisy)]
                    pairs = list(zip(texts, heard, strict=True))
                    for part, members in parts.items():
                        own = [pair for pair in pairs if pair[0] in members]
                        if not own:
                            continue
                        rate, (low, high) = errors.word_error_rate(own), errors.interval(own)
                        rows.append(
                            {"voices": voices, "text": part, "noise": noise, "precision": precision}
                            | {"clips": len(own), "rate": rate, "low": low, "high": high}
                        )
                        print(f"evaluate: {voices}, {part}, {noise}, {precision}: WER {rate:.1%}", flush=True)
                    if noise == "clean" and precision == "int8" and path.name == "free":
                        chosen = np.random.default_rng(2).choice(len(pairs), min(4, len(pairs)), replace=False)
                        examples += [{"voices": voices, "said": pairs[i][0], "heard": pairs[i][1]} for i in chosen]
                        alone = transcribe(model, precision, noisy, "--beam-size", "1")
                        greedy[voices] = errors.word_error_rate(
                            list(zip(texts, (answer["transcription"] for answer in alone), strict=True))
                        )
                        print(f"evaluate: {voices}, free, clean, int8, greedy: WER {greedy[voices]:.1%}", flush=True)
    return rows, greedy, examples[:EXAMPLES]


def times(model: Path, work: Work, clips: int | None) -> dict:
    """How far segments begin from where the sentences do, in clips of two sentences."""
    shard = shards.read(work.speech / "test-seen" / "made")
    spoken = [shard.utterance_samples(index).astype(np.float32) / 32768 for index in range(len(shard.rows))]
    fitting = [samples for samples in spoken if len(samples) < (WINDOW - 3 * SPACE) / 2 * SAMPLE_RATE]
    space = np.zeros(round(SPACE * SAMPLE_RATE), np.float32)
    sounds, begins = [], []
    for first, second in list(zip(fitting[::2], fitting[1::2], strict=False))[: clips or PAIRS]:
        sounds.append(np.concatenate([space, first, space, second, space]))
        begins.append((SPACE, 2 * SPACE + len(first) / SAMPLE_RATE))
    off, right_count = [], 0
    for answer, begin in zip(transcribe(model, "int8", sounds, "--timestamps"), begins, strict=True):
        found = [segment["start"] for segment in answer["segments"]]
        right_count += len(found) == len(begin)
        # The nearest segment: a missing one counts with the distance to what is there, and all of the clip if nothing is.
        off += [min((abs(start - wanted) for start in found), default=WINDOW) for wanted in begin]
    return {
        "clips": len(sounds),
        "within_0.3_s": float(np.mean(np.array(off) <= 0.3)),
        "median_s": float(np.median(off)),
        "two_segments": right_count / len(sounds),
    }


def quiet(model: Path, clips: int | None) -> dict:
    """How many clips of one window without speech come out as nothing, and the words invented in a minute."""
    g, length = np.random.default_rng(3), round(WINDOW * SAMPLE_RATE)
    kinds = {
        "silence": lambda: np.zeros(length),
        "noise": lambda: nonspeech.coloured_noise(g, length),
        "music": lambda: nonspeech.music(g, length),
    }
    result = {}
    for name, make in kinds.items():
        sounds = []
        for _ in range(clips or QUIET_CLIPS):
            sound = make()
            level = 10 ** g.uniform(-3, -0.5)
            sounds.append((sound / (np.abs(sound).max() + 1e-9) * level).astype(np.float32))
            if name == "silence":
                break  # they are all the same
        heard = [answer["transcription"] for answer in transcribe(model, "int8", sounds)]
        invented = sum(len(errors.words(words)) for words in heard)
        result[name] = {
            "clips": len(sounds),
            "empty": sum(not words.strip() for words in heard) / len(heard),
            "words_a_minute": invented / (len(sounds) * WINDOW / 60),
        }
        print(f"evaluate: {name}: {result[name]}", flush=True)
    return result


def recordings(model: Path) -> dict[str, bool]:
    """Whether each recording of `test/audio` comes out word for word, by precision and file."""
    exact = {}
    folder = REPOSITORY / "test/audio"
    files = sorted(path for suffix in ("mp3", "wav", "flac", "ogg", "m4a") for path in folder.glob(f"*.{suffix}"))
    for precision in PRECISIONS:
        for file, answer in zip(files, answers(model, precision, files), strict=True):
            said = file.with_suffix(".txt").read_text(encoding="utf-8")
            exact[f"{file.name}, {precision}"] = errors.words(answer["transcription"]) == errors.words(said)
    return exact


def evaluate(work: Work, model: Path, clips: int | None) -> None:
    """Measures a model folder; `clips` limits each set, for a first look."""
    rows, greedy, examples = words(model, work, clips)
    found = {
        "words": rows,
        "greedy": greedy,
        "times": times(model, work, clips),
        "quiet": quiet(model, clips),
        "examples": examples,
        "recordings": recordings(model),
    }
    if model == work.model.resolve() and clips is None:
        layout.write(work.evaluation, json.dumps(found, indent=1) + "\n")
    print(f"evaluate: times: {found['times']}", flush=True)
    print(f"evaluate: recordings: {found['recordings']}", flush=True)
