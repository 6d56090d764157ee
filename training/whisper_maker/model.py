"""Whisper's architecture, with Hugging Face's parameter names, and two heads that only training uses.

The reasons for a model of our own, where `transformers` has one: training needs the weights of cross-attention, which is
where it is guided, and the output of a middle layer; and the exported graphs want explicit caches.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .layout import MELS, POSITIONS_PER_SECOND, WINDOW
from .tokens import CONTEXT

HEAD = 64
"""Width of an attention head."""


@dataclass(frozen=True)
class Shape:
    """Sizes. A head is HEAD wide, and the feed-forward four times the width, as in every Whisper."""

    width: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 4
    vocabulary: int = 1534

    @property
    def heads(self) -> int:
        return self.width // HEAD

    @property
    def positions(self) -> int:
        return round(WINDOW * POSITIONS_PER_SECOND)


CHARACTERS = 29
"""Outputs of the CTC head: blank, the letters, the apostrophe, the space."""

PHONEMES = 192
"""Outputs of the phoneme head; more than the synthesizers have."""


def sinusoids(positions: int, width: int) -> torch.Tensor:
    """`[positions, width]`: the fixed position embedding of Whisper's encoder."""
    rates = torch.exp(-math.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(positions)[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head attention. `[batch, n, width]` in and out; keys and values are `[batch, heads, m, 64]`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def keys_values(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Both as one product: with two, a training step takes a tenth longer."""
        weight = torch.cat([self.k_proj.weight, self.v_proj.weight])
        bias = torch.cat([torch.zeros_like(self.v_proj.bias), self.v_proj.bias])
        return [self.split(part) for part in F.linear(x, weight, bias).chunk(2, -1)]

    def join(self, heads: torch.Tensor) -> torch.Tensor:
        return self.out_proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, causal: bool = False) -> torch.Tensor:
        return self.with_weights(x, keys, values, causal)[0]

    def with_weights(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, causal: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and the attention weights `[batch, heads, n, m]`. Written out, because in these sizes it is a tenth
        faster on a CPU than PyTorch's fused attention, whose gradient is slow there."""
        queries = self.split(self.q_proj(x)) * HEAD**-0.5
        scores = queries @ keys.transpose(2, 3)
        if causal:
            n = scores.shape[-1]
            scores = scores + torch.full((n, n), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)
        weights = scores.softmax(-1, dtype=torch.float32)
        return self.join(weights.to(values.dtype) @ values), weights


class FeedForward(nn.Module):
    """What the two kinds of layer have in common."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class EncoderLayer(FeedForward):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.self_attn_layer_norm(x)
        return self.feed_forward(x + self.self_attn(y, *self.self_attn.keys_values(y)))


class DecoderLayer(FeedForward):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, shape.width, 3, padding=1)
        self.conv2 = nn.Conv1d(shape.width, shape.width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(shape.positions, shape.width)
        self.embed_positions.weight = nn.Parameter(sinusoids(shape.positions, shape.width), requires_grad=False)
        self.layers = nn.ModuleList(EncoderLayer(shape.width, shape.heads) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(shape.width)

    @property
    def half(self) -> int:
        """How many layers are below the middle."""
        return (len(self.layers) + 1) // 2

    def forward(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`[batch, MELS, frames]` -> `[batch, frames / 2, width]`, and the same of the middle layer."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]].to(x.dtype)
        for layer in self.layers[: self.half]:
            x = layer(x)
        return self.upper(x), x

    def upper(self, x: torch.Tensor) -> torch.Tensor:
        """The layers above the middle, `[batch, n, width]` in and out."""
        for layer in self.layers[self.half :]:
            x = layer(x)
        return self.layer_norm(x)


class Decoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.embed_positions = nn.Embedding(CONTEXT, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape.width, shape.heads) for _ in range(shape.decoder_layers))
        self.layer_norm = nn.LayerNorm(shape.width)

    def forward(self, tokens: torch.Tensor, encoded: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """`[batch, n]` tokens -> `[batch, n, width]` for `logits`, and each layer's cross-attention weights."""
        x = (self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]).to(encoded.dtype)
        attended = []
        for layer in self.layers:
            y = layer.self_attn_layer_norm(x)
            x = x + layer.self_attn(y, *layer.self_attn.keys_values(y), causal=True)
            y, weights = layer.encoder_attn.with_weights(
                layer.encoder_attn_layer_norm(x), *layer.encoder_attn.keys_values(encoded)
            )
            x = layer.feed_forward(x + y)
            attended.append(weights)
        return x, attended

    def pass_through(self, first: int) -> None:
        """Makes the layers from `first` on pass on what they are given, so that a shallower decoder's weights still fit."""
        for layer in self.layers[first:]:
            for last in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.layer_norm(x), self.embed_tokens.weight)


class Whisper(nn.Module):
    """The model under `model.`, as Hugging Face names it, and the training heads beside it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = nn.ModuleDict({"encoder": Encoder(shape), "decoder": Decoder(shape)})
        self.ctc = nn.Linear(shape.width, CHARACTERS)
        self.phonemes = nn.Linear(shape.width, PHONEMES)
        for name, parameter in self.named_parameters():
            if "embed" in name and parameter.requires_grad:
                nn.init.normal_(parameter, std=0.02)
            elif is_matrix(name, parameter):  # what adds to the residual stream begins smaller
                scale = 0.5 if "out_proj" in name or "fc2" in name else 1.0
                nn.init.normal_(parameter, std=scale / math.sqrt(parameter.shape[1]))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def encoder(self) -> Encoder:
        return self.model["encoder"]

    @property
    def decoder(self) -> Decoder:
        return self.model["decoder"]


def is_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether it is a matrix inside a layer: those that Muon trains."""
    return parameter.ndim == 2 and ("proj" in name or "fc" in name)
