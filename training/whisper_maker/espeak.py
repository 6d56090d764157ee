"""The synthesizer espeak-ng, called in process: a voice, a variant, a sentence; out come samples and phoneme times."""

import ctypes as c
from typing import Any

import numpy as np

from .resample import to_16k

SYNCHRONOUS = 2
PHONEME_EVENTS = 1
UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4
PHONEME = 7
"""Numbers of `speak_lib.h`: output mode, initialisation option, character encoding, parameters, event type."""

BETWEEN = "|"
"""Put between phonemes, none of which has it in its name."""

PAUSE = ("_:", "_")
"""The phonemes at the end of a clause."""


class Event(c.Structure):
    """`espeak_EVENT`."""

    _fields_ = [
        ("type", c.c_int),
        ("unique_identifier", c.c_uint),
        ("text_position", c.c_int),
        ("length", c.c_int),
        ("audio_position", c.c_int),
        ("sample", c.c_int),
        ("user_data", c.c_void_p),
        ("string", c.c_char * 8),
    ]


CALLBACK = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(Event))


class Espeak:
    """One engine for the process: the library keeps its state in globals."""

    def __init__(self) -> None:
        self.library = c.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng could not start: is the package espeak-ng-data installed?")
        self.chunks: list[np.ndarray] = []
        self.phonemes: list[tuple[float, str]] = []
        self.callback = CALLBACK(self.receive)  # kept, or it is collected while the library still calls it
        self.library.espeak_SetSynthCallback(self.callback)
        self.library.espeak_TextToPhonemes.restype = c.c_char_p

    def receive(self, samples: Any, count: int, events: Any) -> int:
        """What the library calls with each piece of sound (pointers of ctypes); 0 asks for more."""
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events and events[index].type != 0:
            if events[index].type == PHONEME:
                label = events[index].string.decode("utf-8", errors="replace")
                self.phonemes.append((events[index].audio_position / 1000, label))
            index += 1
        return 0

    def choose(self, voice: str) -> None:
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")

    def pronounce(self, text: str, voice: str) -> list[str]:
        """The phonemes, with pauses between clauses, that `speak` would make sound of; a fortieth of its work."""
        self.choose(voice)
        data = c.create_string_buffer(text.encode())
        rest, phonemes = c.c_void_p(c.addressof(data)), []
        while rest.value:
            clause = self.library.espeak_TextToPhonemes(c.byref(rest), UTF8, ord(BETWEEN) << 8).decode()
            for stress in "',":
                clause = clause.replace(stress, "")
            clause = clause.replace("_!", f"_!{BETWEEN}")  # nothing is put after it
            phonemes += [name for name in clause.replace(" ", BETWEEN).split(BETWEEN) if name] + list(PAUSE)
        return phonemes

    def speak(
        self, text: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int
    ) -> tuple[np.ndarray, list[tuple[float, str]]]:
        """Samples at 16 kHz on the scale of 16-bit integers, and `(start in seconds, phoneme)` of every phoneme.

        An unknown voice is a `ValueError`; not every variant goes with every voice.
        """
        self.choose(voice)
        for parameter, value in ((RATE, words_per_minute), (PITCH, pitch), (RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.chunks, self.phonemes = [], []
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 0, 0, UTF8, None, None)
        samples = np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.int16)
        return to_16k(samples, self.rate), self.phonemes
