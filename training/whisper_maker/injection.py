"""Text injection: sentences that are learned from their phonemes, without sound.

The spelling of English takes far more examples than its sounds do, and audio is a dear way to see them: most of a step's
work is the encoder's, over 50 positions a second. Here the lower half of the encoder, which has learned to tell phonemes
apart, is passed over. What it would have put out is drawn from what it has put out lately, at one position for each
phoneme; the upper half and the decoder learn from that as from audio, for an eighth of the work.

The middle layer's output is modelled as the sum of a vector for the phoneme, one for the position, and noise. Both matter:
a phoneme explained 37 % of the output's variance, the position another 16 %, and without the latter the decoder could
not tell the order of what it was to read, and learned next to nothing.

The idea is that of joint training on speech and text (Sainath et al., JOIST, 2022), with phonemes' times that are known.
"""

import math

import torch
from torch import nn

from .model import PHONEMES, Whisper

MEMORY = 0.98
"""How much of the statistics one step leaves."""

NOISE = 0.3
"""Share of the deviation that is drawn. Most of it belongs to voice and channel and is no noise to those who hear them."""

BLURRED = 0.3
"""At most this share of a row's phonemes come out somewhere between themselves and one that sounds like them, as the
encoder's lower half has it when it is not sure of what it heard: the rest of the word has to say which it was. How many they
are is drawn for each row, because some voices are heard well and some hardly."""


class Injection(nn.Module):
    """Statistics of the middle layer's output: for each phoneme and for silence, and for each position."""

    def __init__(self, model: Whisper) -> None:
        super().__init__()
        width, positions = model.shape.width, model.shape.positions
        self.register_buffer("count", torch.zeros(PHONEMES + 1))
        self.register_buffer("total", torch.zeros(PHONEMES + 1, width))
        self.register_buffer("squares", torch.zeros(PHONEMES + 1, width))
        self.register_buffer("place_count", torch.zeros(positions))
        self.register_buffer("place_total", torch.zeros(positions, width))

    @staticmethod
    def numbers(labels: torch.Tensor) -> torch.Tensor:
        """Positions without a phoneme are silence, the last number."""
        return labels.where(labels >= 0, PHONEMES)

    def sounds(self) -> torch.Tensor:
        """`[PHONEMES + 1, width]`: the mean for each phoneme, beside its position's."""
        return self.total / self.count.clamp(min=1e-6)[:, None]

    def places(self) -> torch.Tensor:
        """`[positions, width]`: the mean at each position, beside its phoneme's."""
        return self.place_total / self.place_count.clamp(min=1e-6)[:, None]

    @torch.no_grad()
    def observe(self, middle: torch.Tensor, labels: torch.Tensor) -> None:
        """Takes in the middle layer's output `[rows, positions, width]` where `labels` `[rows, positions]` are spoken.
        Each of the two means is taken of what the other leaves over."""
        middle, numbers = middle.float(), self.numbers(labels)
        rows, length = labels.shape
        left = middle - self.places()[:length]
        for sums in (self.count, self.total, self.squares, self.place_count, self.place_total):
            sums.mul_(MEMORY)
        self.count.index_add_(0, numbers.flatten(), torch.ones_like(left[..., 0]).flatten())
        self.total.index_add_(0, numbers.flatten(), left.flatten(0, 1))
        of_phoneme = self.sounds()[numbers]
        self.place_count[:length] += rows
        self.place_total[:length] += (middle - of_phoneme).sum(0)
        deviation = middle - of_phoneme - self.places()[:length]
        self.squares.index_add_(0, numbers.flatten(), (deviation**2).flatten(0, 1))

    def likeness(self) -> torch.Tensor:
        """`[PHONEMES, PHONEMES]`: how readily each phoneme is taken for each other: by the distance of their sounds, in
        terms of the nearest one's."""
        sounds = self.sounds()[:PHONEMES]
        distance = torch.cdist(sounds, sounds) ** 2
        known = self.count[:PHONEMES] > 1e-3
        itself = torch.eye(PHONEMES, dtype=torch.bool, device=distance.device)
        distance = distance.masked_fill(itself | ~known, math.inf)
        nearest = distance.amin(1, keepdim=True).clamp(min=1e-6)
        return torch.exp(-2 * distance / nearest) + 1e-9

    @torch.no_grad()
    def draw(self, labels: torch.Tensor, positions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """`[rows, n, width]`: a middle layer's output for phonemes `labels` at `positions`, both `[rows, n]`."""
        numbers = self.numbers(labels)
        deviation = (self.squares / self.count.clamp(min=1e-6)[:, None]).sqrt()[numbers]
        noise = torch.randn(deviation.shape, generator=generator, device=deviation.device)
        sounds = self.sounds()[numbers]

        level = BLURRED * torch.rand(len(numbers), 1, generator=generator, device=numbers.device)
        share = torch.rand(numbers.shape, generator=generator, device=numbers.device) / level
        blurred = (share < 1) & (numbers < PHONEMES)
        other = torch.multinomial(self.likeness()[numbers[blurred]], 1, generator=generator)[:, 0]
        sounds[blurred] = sounds[blurred].lerp(self.sounds()[other], 0.9 * share[blurred, None])
        return sounds + self.places()[positions] + NOISE * deviation * noise
