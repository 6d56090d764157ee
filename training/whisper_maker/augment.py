"""What happens to a voice between mouth and file: room, microphone, band limit, codec, noise, level; and other voices than
were heard. Whole batches at once, on the training device, so that a GPU is not kept waiting."""

import math

import torch

from .layout import SAMPLE_RATE

TAIL = 8000
"""Samples of reverberation at most: half a second."""


class Augment:
    """Each call draws anew for every row, from a generator that the caller seeds. `strength`, 0 to 1, scales how often
    anything happens."""

    def __init__(self, generator: torch.Generator, strength: float = 1.0) -> None:
        self.generator, self.strength = generator, strength
        self.device = generator.device

    def uniform(self, rows: int, low: float, high: float) -> torch.Tensor:
        return torch.rand(rows, generator=self.generator, device=self.device) * (high - low) + low

    def chance(self, rows: int, probability: float) -> torch.Tensor:
        return torch.rand(rows, generator=self.generator, device=self.device) < probability * self.strength

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        samples = self.codec(self.noise(self.room(samples)))
        gain = 10 ** (self.uniform(len(samples), -22, 4) / 20)
        return samples * gain[:, None]

    def room(self, samples: torch.Tensor) -> torch.Tensor:
        """Colour, band limits and reverberation, as one multiplication of spectra."""
        rows, length = samples.shape
        spectrum = torch.fft.rfft(samples, n=length + TAIL)
        bins = spectrum.shape[1]
        frequency = torch.linspace(0, SAMPLE_RATE / 2, bins, device=self.device)

        decibels = self.normal(rows, 1, 7) * 4 * self.chance(rows, 0.5)[:, None, None]
        curve = torch.nn.functional.interpolate(decibels, bins, mode="linear", align_corners=True)[:, 0]
        response = 10 ** (curve / 20)

        low = torch.where(self.chance(rows, 0.2), self.uniform(rows, 2800, 7500), 2e4)[:, None]
        high = torch.where(self.chance(rows, 0.15), self.uniform(rows, 60, 350), -1e3)[:, None]
        response = response * torch.sigmoid((low - frequency) / 100) * torch.sigmoid((frequency - high) / 20)

        seconds = self.uniform(rows, 0.08, 0.5)
        time = torch.arange(TAIL, device=self.device) / SAMPLE_RATE
        echo = self.normal(rows, TAIL) * torch.exp(-6.9 * time / seconds[:, None])
        strength = self.uniform(rows, 0.1, 0.7) * self.chance(rows, 0.25)
        echo = echo * (strength / echo.square().sum(1).sqrt())[:, None]
        echo[:, 0] = 1
        response = response * torch.fft.rfft(echo, n=length + TAIL)
        return torch.fft.irfft(spectrum * response, n=length + TAIL)[:, :length]

    def noise(self, samples: torch.Tensor) -> torch.Tensor:
        """Steady noise between white and brown, 5 to 50 dB under the voice."""
        rows, length = samples.shape
        spectrum = torch.fft.rfft(self.normal(rows, length))
        frequency = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=self.device)
        slope = self.uniform(rows, 0, 1) * self.chance(rows, 0.7)
        noise = torch.fft.irfft(spectrum / (1 + frequency / 100) ** slope[:, None], n=length)
        noise = noise / noise.std(1, keepdim=True)
        level = samples.std(1) * 10 ** (-self.uniform(rows, 5, 50) / 20) * self.chance(rows, 0.55)
        return samples + noise * level[:, None]

    def codec(self, samples: torch.Tensor) -> torch.Tensor:
        """The telephone's eight-bit companding (ITU-T G.711, µ-law) for some of the rows."""
        rows = len(samples)
        peak = samples.abs().amax(1, keepdim=True).clamp(min=1e-4) / self.uniform(rows, 0.3, 1)[:, None]
        scaled = (samples / peak).clamp(-1, 1)
        companded = torch.sign(scaled) * torch.log1p(255 * scaled.abs()) / math.log(256)
        coarse = torch.round(companded * 127) / 127
        decoded = torch.sign(coarse) * (torch.exp(coarse.abs() * math.log(256)) - 1) / 255 * peak
        return torch.where(self.chance(rows, 0.08)[:, None], decoded, samples)

    def voice(self, mel: torch.Tensor) -> torch.Tensor:
        """Other voices: for most of the rows a longer or shorter vocal tract, as a scale of the mel axis (Jaitly and Hinton,
        2013) that differs between its two ends, because tracts differ in more than length; and for a quarter the smooth
        spectra of a vocoder, as an average over neighbours in time and frequency."""
        rows, mels, frames = mel.shape
        other = self.chance(rows, 0.7)
        scale = 1 + self.uniform(rows, -0.12, 0.12) * other
        slope = self.uniform(rows, -0.06, 0.06) * other
        axis = torch.arange(mels, device=self.device)
        place = (axis * (scale[:, None] + slope[:, None] * (2 * axis / mels - 1))).clamp(max=mels - 1)
        below = place.long()
        part = (place - below)[:, :, None]
        low, high = (index[:, :, None].expand(-1, -1, frames) for index in (below, (below + 1).clamp(max=mels - 1)))
        mel = mel.gather(1, low) * (1 - part) + mel.gather(1, high) * part

        smooth = torch.nn.functional.avg_pool2d(mel[:, None], (5, 5), stride=1, padding=2, count_include_pad=False)[:, 0]
        share = self.uniform(rows, 0, 1) * self.chance(rows, 0.25)
        return torch.lerp(mel, smooth, share[:, None, None])

    def mask(self, mel: torch.Tensor) -> torch.Tensor:
        """SpecAugment (Park et al., 2019), mildly: a band of up to 12 mels and a stretch of up to 0.14 s go missing."""
        rows, mels, frames = mel.shape
        mean = mel.mean((1, 2), keepdim=True)
        for axis, widest in ((mels, 12), (frames, 14)):
            width = self.uniform(rows, 0, widest) * self.chance(rows, 0.3)
            start = self.uniform(rows, 0, 1) * (axis - width)
            place = torch.arange(axis, device=self.device)
            hit = (place >= start[:, None]) & (place < (start + width)[:, None])
            mel = torch.where(hit[:, :, None] if axis == mels else hit[:, None, :], mean, mel)
        return mel
