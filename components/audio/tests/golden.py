#!/usr/bin/env python3
"""Writes tests/data/log_mel_{80,128}.f32, the expected frames of tests/data/speech.s16, and log_mel_short_80.f32, those of its
first 190 samples, which are fewer than the reflection before the first frame.

The reference is the spectrogram function and the mel filters of transformers' WhisperFeatureExtractor, applied to the
unpadded clip and before the normalisation; without the last frame, which Whisper drops. The files
are float32, little-endian, `[frames][bins]`.

    pip install numpy transformers && python3 golden.py
"""

from pathlib import Path

import numpy as np
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import spectrogram, window_function

DATA = Path(__file__).parent / "data"


def log_mel(samples, bins):
    extractor = WhisperFeatureExtractor(feature_size=bins)
    frames = spectrogram(
        samples,
        window_function(extractor.n_fft, "hann"),
        frame_length=extractor.n_fft,
        hop_length=extractor.hop_length,
        power=2.0,
        mel_filters=extractor.mel_filters,
        log_mel="log10",
    )
    return frames[:, :-1].T.astype("<f4")


speech = np.fromfile(DATA / "speech.s16", dtype="<i2").astype(np.float64) / 32768
for bins in (80, 128):
    log_mel(speech, bins).tofile(DATA / f"log_mel_{bins}.f32")
log_mel(speech[8000:8190], 80).tofile(DATA / "log_mel_short_80.f32")
