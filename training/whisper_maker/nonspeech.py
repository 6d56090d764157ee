"""Sounds with nobody speaking, for windows whose right transcription is nothing."""

import numpy as np

from .layout import SAMPLE_RATE


def coloured_noise(g: np.random.Generator, length: int) -> np.ndarray:
    spectrum = np.fft.rfft(g.standard_normal(length))
    slope = g.uniform(-0.3, 1.2)
    return np.fft.irfft(spectrum / (1 + np.linspace(0, 80, len(spectrum))) ** slope, n=length)


def bursts(g: np.random.Generator, length: int) -> np.ndarray:
    """Noise that comes and goes: wind, steps, doors."""
    envelope = np.interp(np.arange(length), np.linspace(0, length, 24), g.exponential(1.0, 24) ** 2)
    return coloured_noise(g, length) * envelope


def tones(g: np.random.Generator, length: int) -> np.ndarray:
    """Hum, beeps and gliding tones."""
    time = np.arange(length) / SAMPLE_RATE
    sound = np.zeros(length)
    for _ in range(g.integers(1, 4)):
        frequency, glide = np.exp(g.uniform(np.log(40), np.log(4000))), g.uniform(-0.05, 0.05)
        on = (np.sin(2 * np.pi * g.uniform(0.1, 4) * time + g.uniform(0, 6)) > g.uniform(-1.2, 0.5)).astype(float)
        sound += g.uniform(0.2, 1) * np.sin(2 * np.pi * frequency * time * (1 + glide * time)) * on
    return sound


def music(g: np.random.Generator, length: int) -> np.ndarray:
    """Plucked notes of a scale, one to three at a time."""
    sound = np.zeros(length)
    beat, scale = g.uniform(0.15, 0.6), np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
    base = np.exp(g.uniform(np.log(80), np.log(330)))
    for start in np.arange(0, length / SAMPLE_RATE, beat):
        place = int(start * SAMPLE_RATE)
        time = np.arange(length - place) / SAMPLE_RATE
        for degree in g.choice(scale, g.integers(1, 4)):
            frequency = base * 2 ** (degree / 12)
            shape = np.exp(-time * g.uniform(2, 8))
            for harmonic in range(1, 5):
                if frequency * harmonic < SAMPLE_RATE / 2:
                    sound[place:] += shape * np.sin(2 * np.pi * frequency * harmonic * time) / harmonic**1.5
    return sound


def sample(g: np.random.Generator, length: int) -> np.ndarray:
    """`[length]` float32 of silence or some sound, at any level down to nothing."""
    kind = g.choice(["silence", "noise", "bursts", "tones", "music"], p=[0.2, 0.35, 0.15, 0.15, 0.15])
    if kind == "silence":
        return np.zeros(length, np.float32)
    make = {"noise": coloured_noise, "bursts": bursts, "tones": tones, "music": music}[kind]
    sound = make(g, length)
    return (sound / (np.abs(sound).max() + 1e-9) * 10 ** g.uniform(-3.5, -0.3)).astype(np.float32)
