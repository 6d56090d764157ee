#!/usr/bin/env python3
"""Generates the five recordings in this folder, and a text file for each.

    python3 test/audio/make.py [DIRECTORY]

The files are committed, so this is not needed to run the tests; it documents how they were generated, and is used to change
them. It needs espeak-ng, flite and ffmpeg, and its output is reproducible with the same versions of these.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import wave
from array import array
from dataclasses import dataclass
from pathlib import Path

LEAD, PAUSE, TAIL = 0.30, 0.50, 0.40
"""Seconds of silence before the first sentence, between two sentences, and after the last."""

QUIET = 100
"""Samples (of 32,768) below this at the ends of a sentence are the synthesizer's own silence, which is trimmed."""

PEAK = 0.5
"""Peak of every sentence; full scale is 1.0. It leaves headroom for the overshoot of lossy codecs."""


@dataclass(frozen=True)
class Voice:
    """A synthesizer's voice. `pace` is words per minute for espeak-ng, and the duration stretch for flite."""

    engine: str
    name: str
    pace: float

    def command(self, text: str, path: Path) -> list[str]:
        if self.engine == "espeak-ng":
            return ["espeak-ng", "-v", self.name, "-s", str(self.pace), "-w", str(path), text]
        return ["flite", "-voice", self.name, "--setf", f"duration_stretch={self.pace}", "-t", text, "-o", str(path)]


@dataclass(frozen=True)
class Recording:
    """A file to generate: voice, coding, and sentences; `written` is the text as a person would write it, if
    the synthesizer needs a different one."""

    file: str
    voice: Voice
    coding: list[str]
    sentences: list[str]
    written: str | None = None


RECORDINGS = [
    Recording(
        "story.mp3",
        Voice("espeak-ng", "en-us", 150),
        ["-ar", "44100", "-ac", "2", "-c:a", "libmp3lame", "-b:a", "96k"],
        [
            "The queen and the king lived in a great castle.",
            "The princess saw the black horse in the field.",
            "Every day, the young hunter walked to the forest.",
            "After the storm, the queen opened the old chest.",
        ],
    ),
    Recording(
        "numbers.wav",
        Voice("flite", "rms", 1.0),
        ["-ar", "16000", "-ac", "1", "-c:a", "pcm_s16le"],
        ["One two three four five.", "Six seven eight nine.", "Three hundred forty-two, one hundred seven."],
        "1, 2, 3, 4, 5. 6, 7, 8, 9. 342, 107.",
    ),
    Recording(
        "garden.flac",
        Voice("espeak-ng", "en-us+m3", 160),
        ["-ar", "48000", "-ac", "1", "-sample_fmt", "s16", "-c:a", "flac"],
        ["The wizard took a letter from the castle.", "The dragon guarded the treasure in the dark cave."],
    ),
    Recording(
        "journey.ogg",
        Voice("flite", "slt", 1.05),
        ["-ar", "22050", "-ac", "1", "-c:a", "libvorbis", "-q:a", "4"],
        [
            "The old farmer found a golden key in the garden.",
            "There was a feather in the kitchen, but the child took it.",
            "Every day, the young hunter walked to the forest.",
            "In the spring, the giant lived beyond the mountain.",
            "We are going to the beach on Sunday with our friends.",
            "We bought some bread and milk on the way home.",
            "Many years later, the queen remembered the small village.",
            "The brave princess carried the lantern.",
            "Please call the doctor in the morning.",
            "Is there a good restaurant near the station?",
            "The elf protected the green island.",
        ],
    ),
    Recording(
        "home.m4a",
        Voice("espeak-ng", "en-us+f2", 150),
        ["-ar", "32000", "-ac", "1", "-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart"],
        ["Turn on the lights.", "Set an alarm for seven in the morning.", "Stop the music."],
        "Turn on the lights. Set an alarm for 7 in the morning. Stop the music.",
    ),
]


def speak(voice: Voice, text: str, path: Path) -> tuple[array, int]:
    """One sentence: its 16-bit samples, without silence at the ends, and the sample rate in Hz."""
    subprocess.run(voice.command(text, path), check=True)
    with wave.open(str(path)) as source:
        if (source.getnchannels(), source.getsampwidth()) != (1, 2):
            sys.exit(f"error: {voice.engine} did not write 16-bit mono: {path}")
        rate, samples = source.getframerate(), array("h", source.readframes(source.getnframes()))
    loud = [i for i, sample in enumerate(samples) if abs(sample) >= QUIET]
    if not loud:
        sys.exit(f"error: {voice.engine} said nothing for {text!r}")
    samples = samples[loud[0] : loud[-1] + 1]
    gain = PEAK * 32768 / max(map(abs, samples))
    return array("h", (round(gain * sample) for sample in samples)), rate


def make(recording: Recording, directory: Path, scratch: Path) -> None:
    """Writes the recording and its text into `directory`."""
    spoken, rate = array("h"), 0
    for sentence in recording.sentences:
        samples, rate = speak(recording.voice, sentence, scratch / "sentence.wav")
        spoken += array("h", bytes(2 * round((PAUSE if spoken else LEAD) * rate))) + samples
    spoken += array("h", bytes(2 * round(TAIL * rate)))

    whole = scratch / "whole.wav"
    with wave.open(str(whole), "wb") as sink:
        sink.setnchannels(1)
        sink.setsampwidth(2)
        sink.setframerate(rate)
        sink.writeframes(spoken.tobytes())
    target = directory / recording.file
    exact = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", str(whole), *recording.coding, *exact, str(target)], check=True)
    text = recording.written or " ".join(recording.sentences)
    target.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    print(f"{recording.file}: {len(spoken) / rate:.2f} s, {target.stat().st_size:,} bytes")


def main() -> None:
    arguments = argparse.ArgumentParser(description="Make the recordings that the tests transcribe.")
    arguments.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent, help="where to write them")
    directory = arguments.parse_args().directory

    missing = [tool for tool in ("espeak-ng", "flite", "ffmpeg") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"error: not installed: {', '.join(missing)} (on Debian: apt-get install {' '.join(missing)})")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for recording in RECORDINGS:
            make(recording, directory, Path(scratch))


if __name__ == "__main__":
    main()
