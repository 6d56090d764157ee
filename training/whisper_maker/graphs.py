"""The model as the graphs that are exported: encoder, first decoder step, later decoder steps with caches.

A later step of so small a model takes as long as its operators take to start, not as long as they compute. So there are as
few as can be: queries, keys and values are one product, the scale of the queries is in their weights, and a step of one
token has no mask and nothing to transpose. Attention is written out, because its matrix products are what int8 and ONNX
Runtime's fusions look for. Cached keys and values are `[batch, heads, length, 64]`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .model import HEAD, Attention, Decoder, DecoderLayer, Encoder, EncoderLayer, FeedForward


class Joined(nn.Linear):
    """Several projections of one input as one product: `[batch, n, width]` -> a `[batch, heads, n, 64]` of each."""

    def __init__(self, *projections: nn.Linear, queries: bool) -> None:
        width = projections[0].in_features
        super().__init__(width, len(projections) * width)
        self.heads = width // HEAD
        weights = [projection.weight for projection in projections]
        biases = [torch.zeros(width) if p.bias is None else p.bias for p in projections]
        if queries:  # the first ones; their scale is that of the scores
            weights[0], biases[0] = weights[0] * HEAD**-0.5, biases[0] * HEAD**-0.5
        self.weight.data, self.bias.data = torch.cat(weights).detach(), torch.cat(biases).detach()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = super().forward(x).view(x.shape[0], x.shape[1], -1, HEAD).split(self.heads, 2)
        return tuple(part.transpose(1, 2) for part in parts)

    def of_one(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The same for a single position."""
        return super().forward(x).view(-1, self.out_features // HEAD, 1, HEAD).split(self.heads, 1)


class LayerGraph(nn.Module):
    """The projections of a layer, joined."""

    def __init__(self, layer: FeedForward) -> None:
        super().__init__()
        own = layer.self_attn
        self.layer, self.own = layer, Joined(own.q_proj, own.k_proj, own.v_proj, queries=True)
        if isinstance(layer, DecoderLayer):
            other = layer.encoder_attn
            self.queries = Joined(other.q_proj, queries=True)
            self.cross = Joined(other.k_proj, other.v_proj, queries=False)


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    scores = queries @ keys.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1) @ values


def join_one(attention: Attention, heads: torch.Tensor) -> torch.Tensor:
    """`Attention.join` for a single position."""
    return attention.out_proj(heads.reshape(-1, 1, attention.heads * HEAD))


def causal(length: int) -> torch.Tensor:
    """`[1, 1, length, length]` to add to scores: nothing attends to what comes after it."""
    places = torch.arange(length)
    return torch.where(places[None] > places[:, None], torch.tensor(-1e9), torch.tensor(0.0))[None, None]


class EncoderGraph(nn.Module):
    """`input_features [batch, mels, frames]` -> `last_hidden_state [batch, positions, width]`."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.layers = encoder, nn.ModuleList(LayerGraph(layer) for layer in encoder.layers)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        encoder = self.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(input_features)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight
        for graph in self.layers:
            layer: EncoderLayer = graph.layer
            x = x + layer.self_attn.join(attend(*graph.own(layer.self_attn_layer_norm(x))))
            x = layer.feed_forward(x)
        return encoder.layer_norm(x)


class FirstStep(nn.Module):
    """Prompt tokens and the encoder's output -> logits, and for each layer its own and the encoder's keys and values."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder, self.layers = decoder, nn.ModuleList(LayerGraph(layer) for layer in decoder.layers)

    def forward(self, input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        decoder, length = self.decoder, input_ids.shape[1]
        x = decoder.embed_tokens(input_ids) + decoder.embed_positions.weight[:length]
        present: list[torch.Tensor] = []
        for graph in self.layers:
            layer: DecoderLayer = graph.layer
            queries, keys, values = graph.own(layer.self_attn_layer_norm(x))
            x = x + layer.self_attn.join(attend(queries, keys, values, causal(length)))
            (queries,) = graph.queries(layer.encoder_attn_layer_norm(x))
            cross = graph.cross(encoder_hidden_states)
            x = layer.feed_forward(x + layer.encoder_attn.join(attend(queries, *cross)))
            present += [keys, values, *cross]
        return decoder.logits(x), *present


class NextStep(nn.Module):
    """One further token and all caches -> logits, and each layer's own keys and values, grown by one."""

    def __init__(self, first: FirstStep) -> None:
        super().__init__()
        self.decoder, self.layers = first.decoder, first.layers

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        decoder, before = self.decoder, past[0].shape[2]
        x = decoder.embed_tokens(input_ids) + decoder.embed_positions.weight[before : before + 1]
        present: list[torch.Tensor] = []
        for number, graph in enumerate(self.layers):
            layer: DecoderLayer = graph.layer
            own_keys, own_values, *cross = past[4 * number : 4 * number + 4]
            queries, keys, values = graph.own.of_one(layer.self_attn_layer_norm(x))
            keys, values = torch.cat([own_keys, keys], 2), torch.cat([own_values, values], 2)
            x = x + join_one(layer.self_attn, attend(queries, keys, values))
            (queries,) = graph.queries.of_one(layer.encoder_attn_layer_norm(x))
            x = layer.feed_forward(x + join_one(layer.encoder_attn, attend(queries, *cross)))
            present += [keys, values]
        return decoder.logits(x), *present
