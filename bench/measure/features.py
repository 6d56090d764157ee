"""Log-mel frames: the component `audio` in WebAssembly compared with transformers' feature extractor, one thread each."""

import json
import time
import wave
from pathlib import Path
from statistics import median

import numpy
from transformers import WhisperFeatureExtractor

from .processes import MODEL, instrumented
from .section import Section, Table, ratio

#: Speech, 16 kHz, 16-bit, mono; said again and again.
SOURCE = Path("test/audio/numbers.wav")
SECONDS = 300


def recording(path: Path) -> numpy.ndarray:
    """Writes a WAV file of that length. Returns its samples as the peer expects them, from -1 to 1."""
    with wave.open(str(SOURCE)) as source:
        rate = source.getframerate()
        said = numpy.frombuffer(source.readframes(source.getnframes()), dtype="<i2")
    samples = numpy.resize(said, SECONDS * rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return samples.astype(numpy.float32) / 32768


def measure(rounds: int, state: Path) -> Section:
    path = state / "five-minutes.wav"
    samples = recording(path)
    n_mels = json.loads((MODEL / "preprocessor_config.json").read_text())["feature_size"]
    extractor = WhisperFeatureExtractor(feature_size=n_mels)

    def peer(part: numpy.ndarray = samples) -> float:
        begun = time.perf_counter()
        extractor(part, sampling_rate=16_000, truncation=False, padding="longest", return_tensors="np")
        return time.perf_counter() - begun

    ours, decoding, theirs = [], [], []
    with instrumented(state / "instrumented") as host:
        host.ask(f"features {path}")
        host.ask(f"decode {path}")
        peer(samples[: 30 * 16_000])
        for _ in range(rounds):
            ours.append(host.ask(f"features {path}")["seconds"])
            theirs.append(peer())
            decoding.append(host.ask(f"decode {path}")["seconds"])
    times_faster = ratio(theirs, ours)
    mel_alone = ratio(theirs, [both - decode for both, decode in zip(ours, decoding, strict=True)])
    return Section(
        title=f"Log-mel frames of {SECONDS // 60} minutes of audio",
        figures={
            "audio_seconds": SECONDS,
            "audio_wasm_seconds": median(ours),
            "decode_seconds": median(decoding),
            "transformers_seconds": median(theirs),
            "times_faster": times_faster.figures(),
            "times_faster_without_decoding": mel_alone.figures(),
        },
        tables=[
            Table(
                ["what", "seconds", "times faster than transformers"],
                [
                    ["`audio.wasm`, WAV to frames", f"{median(ours):.3f}", str(times_faster)],
                    ["of it, decoding the WAV", f"{median(decoding):.3f}", ""],
                    ["of it, log-mel", f"{median(ours) - median(decoding):.3f}", str(mel_alone)],
                    ["`WhisperFeatureExtractor`, samples to frames", f"{median(theirs):.3f}", "1"],
                ],
            )
        ],
        notes=[
            f"{n_mels} mel bins, one thread each. transformers gets the samples decoded, and computes with NumPy, as it does "
            "where PyTorch is not installed; it also normalises the frames, which here is the host's work.",
        ],
    )
