"""Samples in WAV files of one channel and 16 bits, and noise in the same units."""

import wave
from pathlib import Path

import numpy

FULL_SCALE = 32768.0
#: Power falls with the frequency to this exponent.
COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}


def samples(path: Path) -> numpy.ndarray:
    """Of a WAV file of one channel and 16 bits, as they are stored."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2), path
        return numpy.frombuffer(file.readframes(file.getnframes()), "<i2").astype(numpy.float64)


def write(path: Path, rate: int, parts: list[numpy.ndarray]) -> Path:
    """A WAV file of one channel and 16 bits."""
    joined = numpy.clip(numpy.rint(numpy.concatenate(parts)), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(joined.tobytes())
    return path


def coloured(slope: float, seconds: float, rate: int, level: float) -> numpy.ndarray:
    """Noise whose power falls with the frequency to the power of `slope`, from 20 Hz on."""
    count = int(seconds * rate)
    spectrum = numpy.fft.rfft(numpy.random.default_rng(int(slope)).standard_normal(count))
    frequency = numpy.maximum(numpy.fft.rfftfreq(count, 1 / rate), 20.0)
    return at_level(numpy.fft.irfft(spectrum * frequency ** (-slope / 2), count), level)


def at_level(sound: numpy.ndarray, level: float) -> numpy.ndarray:
    """Scaled to this mean power, in decibels below full scale."""
    return sound * (FULL_SCALE * 10 ** (level / 20) / numpy.sqrt(numpy.mean(sound**2)))
