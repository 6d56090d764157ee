"""The synthesizer festival, as a program: the engine that training never hears, for testing alone."""

import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from .resample import to_16k

VOICES = ("cmu_us_slt_arctic_hts", "ked_diphone")
"""Packages festvox-us-slt-hts and festvox-kdlpc16k. The speaker of the first is in flite too, in another technique."""


def speak_all(texts: list[str], voice: str) -> list[np.ndarray]:
    """The samples of each text, at 16 kHz on the scale of 16-bit integers."""
    with tempfile.TemporaryDirectory() as folder:
        script = [f"(voice_{voice})"]
        for number, text in enumerate(texts):
            plain = text.replace("\\", " ").replace('"', " ")
            script.append(f'(utt.save.wave (utt.synth (Utterance Text "{plain}")) "{folder}/{number}.wav" \'riff)')
        commands = Path(folder, "commands.scm")
        commands.write_text("\n".join(script), encoding="utf-8")
        subprocess.run(["festival", "--batch", str(commands)], check=True)
        spoken = []
        for number in range(len(texts)):
            with wave.open(f"{folder}/{number}.wav") as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
                spoken.append(to_16k(samples, file.getframerate()))
    return spoken
