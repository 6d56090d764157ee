"""Sounds in which nobody speaks: a minute each of noises, tones and music, and ten minutes of all but silence.

Whatever words come of them are invented. Levels are in
decibels below full scale.
"""

from pathlib import Path

import numpy

from .recordings import Recording
from .sound import COLOURS, FULL_SCALE, at_level, coloured, write

RATE = 16_000
SECONDS = 60.0
SILENCE_SECONDS = 600.0
LOUD, SOFT = -20.0, -45.0


def clips(folder: Path) -> list[Recording]:
    sounds = {name: coloured(slope, SECONDS, RATE, LOUD) for name, slope in COLOURS.items()}
    sounds |= {f"{name}, soft": coloured(slope, SECONDS, RATE, SOFT) for name, slope in COLOURS.items()}
    sounds |= {
        "ringing": ringing(),
        "clicks": clicks(),
        "music": music(),
        "chord": chord(),
        "hum": hum(),
        "silence": silence(),
    }
    return [
        Recording(
            "noise", name, write(folder / f"noise-{name.replace(', ', '-')}.wav", RATE, [sound]), (), language_known=False
        )
        for name, sound in sounds.items()
    ]


def times() -> numpy.ndarray:
    return numpy.arange(int(SECONDS * RATE)) / RATE


def tone(frequency: float, at: numpy.ndarray, harmonics: int = 1) -> numpy.ndarray:
    return sum(numpy.sin(2 * numpy.pi * frequency * n * at) / n for n in range(1, harmonics + 1))


def ringing() -> numpy.ndarray:
    """The ringback tone of North America: 440 and 480 Hz, two seconds of six."""
    at = times()
    return at_level((tone(440, at) + tone(480, at)) * (at % 6 < 2), LOUD)


def clicks() -> numpy.ndarray:
    """Three a second at random, each gone in a few milliseconds."""
    draw = numpy.random.default_rng(3)
    struck = (draw.random(len(times())) < 3 / RATE) * draw.uniform(0.3, 1.0, len(times()))
    decay = numpy.exp(-numpy.arange(RATE // 50) / (RATE * 0.002))
    return numpy.convolve(struck, decay)[: len(times())] * FULL_SCALE * 0.5


def music() -> numpy.ndarray:
    """A melody of plucked notes on a pentatonic scale, over a bass that changes every two seconds."""
    draw = numpy.random.default_rng(4)
    sound = numpy.zeros(len(times()))
    scale = 220 * 2 ** (numpy.array([0, 2, 4, 7, 9, 12, 14, 16]) / 12)
    for length, notes, loudness in ((0.25, scale, 1.0), (2.0, scale[:4] / 2, 0.7)):
        at = numpy.arange(int(length * RATE)) / RATE
        shape = numpy.minimum(1, at / 0.01) * numpy.exp(-2 * at / length)
        for begin in range(0, len(sound), len(at)):
            sound[begin : begin + len(at)] += loudness * shape * tone(draw.choice(notes), at, harmonics=5)
    return at_level(sound, LOUD)


def chord() -> numpy.ndarray:
    at = times()
    return at_level(sum(tone(220 * 2 ** (step / 12), at, harmonics=4) for step in (0, 4, 7)), LOUD)


def hum() -> numpy.ndarray:
    """Of the mains."""
    return at_level(tone(50, times(), harmonics=6), LOUD)


def silence() -> numpy.ndarray:
    """One bit of dither."""
    return numpy.random.default_rng(5).integers(-1, 2, int(SILENCE_SECONDS * RATE)).astype(numpy.float64)
