"""Whatever rate a synthesizer speaks at, to the rate of this package."""

from math import gcd

import numpy as np
from scipy.signal import resample_poly

from .layout import SAMPLE_RATE


def to_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples of any type at `rate` Hz, as float32 at 16 kHz, on the same scale."""
    samples = samples.astype(np.float32)
    if rate == SAMPLE_RATE:
        return samples
    common = gcd(rate, SAMPLE_RATE)
    return resample_poly(samples, SAMPLE_RATE // common, rate // common).astype(np.float32)
