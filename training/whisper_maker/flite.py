"""The synthesizer flite, called in process: a voice, a sentence; out come samples and phoneme times."""

import ctypes as c

import numpy as np

from .resample import to_16k


class Wave(c.Structure):
    """`cst_wave`."""

    _fields_ = [
        ("type", c.c_char_p),
        ("sample_rate", c.c_int),
        ("num_samples", c.c_int),
        ("num_channels", c.c_int),
        ("samples", c.POINTER(c.c_short)),
    ]


class Voice(c.Structure):
    """The beginning of `cst_voice`."""

    _fields_ = [("name", c.c_char_p), ("features", c.c_void_p)]


class Utterance(c.Structure):
    """The beginning of `cst_utterance`."""

    _fields_ = [("features", c.c_void_p)]


class Relation(c.Structure):
    """The beginning of `cst_relation`."""

    _fields_ = [("name", c.c_char_p), ("features", c.c_void_p), ("utterance", c.c_void_p), ("head", c.c_void_p)]


PITCHES = {"kal": (85, 125), "kal16": (85, 125), "awb": (110, 160), "rms": (80, 130), "slt": (150, 200)}
"""Voices, and the range in Hz that each one's mean pitch can be moved in and still sound like a person."""


class Flite:
    """The voices as shared libraries, registered once for the process."""

    def __init__(self) -> None:
        for name in ("libflite_usenglish.so.1", "libflite_cmulex.so.1"):
            c.CDLL(name, c.RTLD_GLOBAL)
        library = self.library = c.CDLL("libflite.so.1", c.RTLD_GLOBAL)
        library.flite_init()
        pointer, text = c.c_void_p, c.c_char_p
        for function, result, arguments in (
            ("flite_synth_text", pointer, [text, pointer]),
            ("new_utterance", c.POINTER(Utterance), []),
            ("utt_set_input_text", pointer, [pointer, text]),
            ("utt_init", pointer, [pointer, pointer]),
            ("utt_synth", pointer, [pointer]),
            ("utt_wave", c.POINTER(Wave), [pointer]),
            ("utt_relation", c.POINTER(Relation), [pointer, text]),
            ("item_next", pointer, [pointer]),
            ("item_feat_string", text, [pointer, text]),
            ("item_feat_float", c.c_float, [pointer, text]),
            ("feat_val", pointer, [pointer, text]),
            ("feat_set", None, [pointer, text, pointer]),
            ("feat_set_float", None, [pointer, text, c.c_float]),
            ("delete_utterance", None, [pointer]),
        ):
            getattr(library, function).restype = result
            getattr(library, function).argtypes = arguments
        self.voices = {name: self.register(name) for name in PITCHES}

    def register(self, name: str) -> int:
        register = getattr(c.CDLL(f"libflite_cmu_us_{name}.so.1", c.RTLD_GLOBAL), f"register_cmu_us_{name}")
        register.restype, register.argtypes = c.c_void_p, [c.c_char_p]
        return register(None)

    def features(self, voice: str) -> int:
        return c.cast(self.voices[voice], c.POINTER(Voice)).contents.features

    def speak(self, text: str, voice: str, stretch: float, pitch: float) -> tuple[np.ndarray, list[tuple[float, str]]]:
        """Samples at 16 kHz on the scale of 16-bit integers, and `(start in seconds, phoneme)` of every phoneme."""
        library = self.library
        library.feat_set_float(self.features(voice), b"duration_stretch", stretch)
        library.feat_set_float(self.features(voice), b"int_f0_target_mean", pitch)
        utterance = library.flite_synth_text(text.encode(), self.voices[voice])
        wave = library.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        phonemes = self.segments(utterance)
        rate = wave.sample_rate
        library.delete_utterance(utterance)
        return to_16k(samples, rate), phonemes

    def pronounce(self, text: str) -> list[str]:
        """The phonemes that a recorded voice would speak, pauses among them. They are a diphone voice's, whose sound costs
        next to nothing when it is so short; but the rules for a phoneme among others are a recorded one's, because a
        diphone voice's own make `aa` (*cot*) of every `ah` (*cut*)."""
        library = self.library
        utterance = library.new_utterance()
        library.utt_set_input_text(utterance, text.encode())
        library.utt_init(utterance, self.voices["kal"])
        own = utterance.contents.features
        library.feat_set(own, b"postlex_func", library.feat_val(self.features("slt"), b"postlex_func"))
        library.feat_set_float(own, b"duration_stretch", 0.02)
        library.utt_synth(utterance)
        phonemes = self.segments(utterance)
        library.delete_utterance(utterance)
        return [name for _, name in phonemes]

    def segments(self, utterance: int) -> list[tuple[float, str]]:
        """`(start in seconds, phoneme)` of a synthesized utterance."""
        library = self.library
        phonemes, start = [], 0.0
        item = library.utt_relation(utterance, b"Segment").contents.head
        while item:
            phonemes.append((start, library.item_feat_string(item, b"name").decode()))
            start = library.item_feat_float(item, b"end")  # a segment knows its end; the next begins there
            item = library.item_next(item)
        return phonemes
