"""Whisper's features: log-mel power of 25 ms every 10 ms, on any device."""

import torch

from .layout import MELS, SAMPLE_RATE

FFT, HOP = 400, 160


def mel_filters() -> torch.Tensor:
    """`[MELS, FFT / 2 + 1]`: triangles on the Slaney mel scale (linear below 1 kHz, then logarithmic), each of area one."""

    def hertz(mel: torch.Tensor) -> torch.Tensor:
        return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * (torch.tensor(6.4).log() / 27)))

    top = 15 + 27 * torch.log(torch.tensor(SAMPLE_RATE / 2 / 1000)) / torch.tensor(6.4).log()
    corners = hertz(torch.linspace(0, float(top), MELS + 2, dtype=torch.float64))
    bins = torch.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1, dtype=torch.float64)
    rise = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    area = 2 / (corners[2:] - corners[:-2])
    return (torch.minimum(rise, fall).clamp(min=0) * area[:, None]).float()


class LogMel(torch.nn.Module):
    """`[batch, samples]` -> `[batch, MELS, samples / 160]`, scaled as Whisper scales a window: at most 8 below its
    loudest value (log10), then `(x + 4) / 4`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", mel_filters())
        self.register_buffer("window", torch.hann_window(FFT))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(samples, FFT, HOP, window=self.window, center=True, pad_mode="reflect", return_complex=True)
        power = spectrum[..., :-1].abs().square()
        mel = (self.filters @ power).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4
