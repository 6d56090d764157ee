"""Greedy decoding of a batch with the training model, for the error rates that training prints. What ships is measured
through the host instead (`evaluation`)."""

import torch

from .model import Whisper
from .tokens import Specials

LONGEST = 120
"""Tokens; a window of the densest speech has about 90."""


@torch.no_grad()
def greedy(model: Whisper, mel: torch.Tensor, ids: Specials) -> list[list[int]]:
    """The text tokens of each row of `[batch, MELS, frames]`, without time stamps."""
    encoded, _ = model.encoder(mel)
    tokens = torch.tensor([[ids.start, ids.english, ids.transcribe, ids.no_timestamps]], device=mel.device)
    tokens = tokens.repeat(len(mel), 1)
    prefix = tokens.shape[1]
    ended = torch.zeros(len(mel), dtype=torch.bool, device=mel.device)
    decoder = model.decoder
    cross = [layer.encoder_attn.keys_values(encoded) for layer in decoder.layers]
    past: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(decoder.layers)
    new = tokens
    for _ in range(LONGEST):
        start = tokens.shape[1] - new.shape[1]
        x = decoder.embed_tokens(new) + decoder.embed_positions.weight[start : tokens.shape[1]]
        for number, layer in enumerate(decoder.layers):
            y = layer.self_attn_layer_norm(x)
            keys, values = layer.self_attn.keys_values(y)
            before = past[number]
            if before is not None:
                keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
            past[number] = (keys, values)
            x = x + layer.self_attn(y, keys, values, causal=before is None)
            x = layer.feed_forward(x + layer.encoder_attn(layer.encoder_attn_layer_norm(x), *cross[number]))
        logits = decoder.logits(x[:, -1:])[:, 0]
        logits[:, ids.end + 1 :] = float("-inf")  # nothing but text and the end
        new = logits.argmax(-1, keepdim=True)
        new[ended] = ids.end
        tokens = torch.cat([tokens, new], 1)
        ended |= new[:, 0] == ids.end
        if bool(ended.all()):
            break
    return [[token for token in row if token < ids.end] for row in tokens[:, prefix:].tolist()]
