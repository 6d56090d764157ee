"""Text injection: sentences that are learned from their phonemes, without sound.

The spelling of English takes far more examples than its sounds do, and audio is a dear way to see them: most of a step's
work is the encoder's, over 50 positions a second. Here the lower half of the encoder, which has learned to tell phonemes
apart, is passed over. What it would have put out is drawn from what it has put out for each phoneme lately, at one
position for each phoneme; the upper half and the decoder learn from that as from audio, for an eighth of the work.

The idea is that of joint training on speech and text (Sainath et al., JOIST, 2022), with phonemes' times that are known.
"""

import torch
from torch import nn

from .model import PHONEMES, Whisper

MEMORY = 0.99
"""How much of the statistics one step leaves."""


class Injection(nn.Module):
    """Mean and variance of the middle layer's output for each phoneme, and for silence, without the position embedding."""

    def __init__(self, model: Whisper) -> None:
        super().__init__()
        width = model.shape.width
        self.register_buffer("places", model.encoder.embed_positions.weight.detach().clone(), persistent=False)
        self.register_buffer("count", torch.zeros(PHONEMES + 1))
        self.register_buffer("total", torch.zeros(PHONEMES + 1, width))
        self.register_buffer("squares", torch.zeros(PHONEMES + 1, width))

    @staticmethod
    def numbers(labels: torch.Tensor) -> torch.Tensor:
        """Positions without a phoneme are silence, the last number."""
        return labels.where(labels >= 0, PHONEMES)

    @torch.no_grad()
    def observe(self, middle: torch.Tensor, labels: torch.Tensor) -> None:
        """Takes in the middle layer's output `[rows, positions, width]` where `labels` `[rows, positions]` are spoken."""
        outputs = (middle.float() - self.places[: middle.shape[1]]).flatten(0, 1)
        numbers = self.numbers(labels).flatten()
        for sums, values in ((self.count, torch.ones_like(outputs[:, 0])), (self.total, outputs), (self.squares, outputs**2)):
            sums.mul_(MEMORY).index_add_(0, numbers, values)

    @torch.no_grad()
    def draw(self, labels: torch.Tensor, positions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """`[rows, n, width]`: a middle layer's output for phonemes `labels` at `positions`, both `[rows, n]`."""
        count = self.count.clamp(min=1e-6)[:, None]
        mean = self.total / count
        spread = (self.squares / count - mean**2).clamp(min=0).sqrt()
        numbers = self.numbers(labels)
        noise = torch.randn(*labels.shape, mean.shape[1], generator=generator, device=mean.device)
        return mean[numbers] + spread[numbers] * noise + self.places[positions]
