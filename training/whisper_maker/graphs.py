"""The model as the graphs that are exported: encoder, first decoder step, later decoder steps with caches.

Attention is written out, because its matrix products are what int8 and ONNX Runtime's fusions look for. Cached keys and
values are `[batch, heads, length, 64]`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .model import Attention, Decoder, Encoder, EncoderLayer


def attend(
    attention: Attention, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    scores = attention.split(attention.q_proj(x)) @ keys.transpose(2, 3) * 64**-0.5
    if mask is not None:
        scores = scores + mask
    return attention.join(scores.softmax(-1) @ values)


def causal(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """`[1, 1, rows, columns]` to add to scores: nothing attends to what comes after it."""
    return torch.where(columns[None] > rows[:, None], torch.tensor(-1e9), torch.tensor(0.0))[None, None]


class EncoderGraph(nn.Module):
    """`input_features [batch, mels, frames]` -> `last_hidden_state [batch, positions, width]`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        encoder = self.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(input_features)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight
        layer: EncoderLayer
        for layer in encoder.layers:
            y = layer.self_attn_layer_norm(x)
            x = layer.feed_forward(x + attend(layer.self_attn, y, *layer.self_attn.keys_values(y)))
        return encoder.layer_norm(x)


class FirstStep(nn.Module):
    """Prompt tokens and the encoder's output -> logits, and for each layer its own and the encoder's keys and values."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        decoder = self.decoder
        places = torch.arange(input_ids.shape[1])
        x = decoder.embed_tokens(input_ids) + decoder.embed_positions.weight[: input_ids.shape[1]]
        present: list[torch.Tensor] = []
        for layer in decoder.layers:
            y = layer.self_attn_layer_norm(x)
            keys, values = layer.self_attn.keys_values(y)
            x = x + attend(layer.self_attn, y, keys, values, causal(places, places))
            cross = layer.encoder_attn.keys_values(encoder_hidden_states)
            x = layer.feed_forward(x + attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), *cross))
            present += [keys, values, *cross]
        return decoder.logits(x), *present


class NextStep(nn.Module):
    """Further tokens and all caches -> logits, and each layer's own keys and values, grown."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        decoder = self.decoder
        before, new = past[0].shape[2], input_ids.shape[1]
        mask = causal(torch.arange(new) + before, torch.arange(before + new))
        x = decoder.embed_tokens(input_ids) + decoder.embed_positions.weight[before : before + new]
        present: list[torch.Tensor] = []
        for number, layer in enumerate(decoder.layers):
            own_keys, own_values, *cross = past[4 * number : 4 * number + 4]
            y = layer.self_attn_layer_norm(x)
            keys, values = layer.self_attn.keys_values(y)
            keys, values = torch.cat([own_keys, keys], 2), torch.cat([own_values, values], 2)
            x = x + attend(layer.self_attn, y, keys, values, mask)
            x = layer.feed_forward(x + attend(layer.encoder_attn, layer.encoder_attn_layer_norm(x), *cross))
            present += [keys, values]
        return decoder.logits(x), *present
