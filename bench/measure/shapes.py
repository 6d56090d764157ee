"""Models with Whisper's real shapes and random weights, which output a fixed number of tokens for any input.

Run time depends on shapes, not on values, so sizes without available weights can be measured; and with the same number
of tokens on both sides, times are comparable. Positions before the end predict a few words that are about equally
likely, so that a beam search keeps its rows; later ones predict the end of text. The other weights have little effect.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import numpy
from tokenizers import Tokenizer

from . import models

#: Source of the tokenizer and special tokens: a real multilingual model.
SPECIAL = "base"
MELS, FRAMES, POSITIONS = 80, 1500, 448
WORDS = " the of and to in that it is"
#: Tokens per window, including the initial timestamp and the end of text; and tokens of the prompt before them.
TOKENS, PROMPT = 64, 3


@dataclass(frozen=True)
class Shape:
    """Encoder and decoder have the same width, heads and number of layers."""

    width: int
    heads: int
    layers: int

    @property
    def vocabulary(self) -> int:
        return 51_865

    def step_bytes(self, precision: str, windows: int) -> int:
        """Minimum bytes read per step: the decoder's weights without those that compute the cross-attention's keys and
        values, the output projection, and these keys and values once per window; all in this precision."""
        attention = 4 * self.width**2 + 2 * self.width**2
        weights = self.layers * (attention + 8 * self.width**2) + self.vocabulary * self.width
        return (weights + windows * self.layers * 2 * FRAMES * self.width) * {"fp32": 4, "int8": 1}[precision]

    def encoder_products(self) -> int:
        """Operations (multiplications and additions) per window: from frames to the decoder's
        cross-attention keys and values."""
        convolutions = 3 * MELS * self.width * 2 * FRAMES + 3 * self.width**2 * FRAMES
        layer = 12 * self.width**2 * FRAMES + 2 * FRAMES**2 * self.width
        cross = self.layers * 2 * self.width**2 * FRAMES
        return 2 * (convolutions + self.layers * layer + cross)


SHAPES = {"tiny": Shape(384, 6, 4), "base": Shape(512, 8, 6), "small": Shape(768, 12, 12)}


def folder(name: str) -> Path:
    """Folder of the model, next to the other models; created if missing."""
    path = models.root() / f"shape-{name}"
    if not (path / "config.json").exists():
        making = path.with_name(path.name + ".part")
        shutil.rmtree(making, ignore_errors=True)
        make(SHAPES[name], models.folder(SPECIAL), making)
        making.rename(path)
    return path


def prompt() -> list[int]:
    tokenizer = Tokenizer.from_file(str(models.folder(SPECIAL) / "tokenizer.json"))
    return [tokenizer.token_to_id(token) for token in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>")]


def make(shape: Shape, special: Path, folder: Path) -> None:
    """Writes a folder like CTranslate2's converter, with fp16 weights."""
    tokenizer = Tokenizer.from_file(str(special / "tokenizer.json"))
    draw = numpy.random.default_rng(0)

    def normal(*dimensions: int, deviation: float = 0.02) -> numpy.ndarray:
        return draw.standard_normal(dimensions, dtype=numpy.float32) * numpy.float32(deviation)

    def linear(spec, outputs: int, inputs: int, deviation: float = 0.02) -> None:
        spec.weight, spec.bias = normal(outputs, inputs, deviation=deviation), normal(outputs, deviation=0.001)

    def layer_norm(spec) -> None:
        spec.gamma, spec.beta = 1 + normal(shape.width, deviation=0.001), normal(shape.width, deviation=0.001)

    def layer(spec, cross: bool) -> None:
        width = shape.width
        # Layers add little, so that the positions determine the output.
        linear(spec.self_attention.linear[0], 3 * width, width)
        linear(spec.self_attention.linear[1], width, width, deviation=0.001)
        layer_norm(spec.self_attention.layer_norm)
        if cross:
            linear(spec.attention.linear[0], width, width)
            linear(spec.attention.linear[1], 2 * width, width)
            linear(spec.attention.linear[2], width, width, deviation=0.001)
            layer_norm(spec.attention.layer_norm)
        linear(spec.ffn.linear_0, 4 * width, width)
        linear(spec.ffn.linear_1, width, 4 * width, deviation=0.001)
        layer_norm(spec.ffn.layer_norm)

    spec = ctranslate2.specs.WhisperSpec(shape.layers, shape.heads, shape.layers, shape.heads)
    spec.encoder.conv1.weight, spec.encoder.conv1.bias = normal(shape.width, MELS, 3), normal(shape.width)
    spec.encoder.conv2.weight, spec.encoder.conv2.bias = normal(shape.width, shape.width, 3), normal(shape.width)
    spec.encoder.position_encodings.encodings = normal(FRAMES, shape.width)
    for one in spec.encoder.layer:
        layer(one, cross=False)
    layer_norm(spec.encoder.layer_norm)
    for one in spec.decoder.layer:
        layer(one, cross=True)
    layer_norm(spec.decoder.layer_norm)

    towards_words, towards_end = numpy.linalg.qr(draw.standard_normal((shape.width, 2)))[0].T.astype(numpy.float32)
    embeddings = normal(shape.vocabulary, shape.width)
    embeddings[tokenizer.encode(WORDS, add_special_tokens=False).ids] += towards_words
    embeddings[tokenizer.token_to_id("<|endoftext|>")] += towards_end
    # The position of a token is one less than that of the next token.
    last = PROMPT + TOKENS - 2
    positions = normal(POSITIONS, shape.width)
    positions[:last] += 4 * towards_words
    positions[last:] += 4 * towards_end
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = embeddings
    spec.decoder.position_encodings.encodings = positions

    names = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    listed = [name for name, _ in names]
    spec.register_vocabulary(listed + [f"<|{0.02 * step:.2f}|>" for step in range(shape.vocabulary - len(listed))])
    spec.validate()
    spec.optimize(quantization="float16")
    folder.mkdir(parents=True)
    spec.save(str(folder))
    shutil.copy(special / "tokenizer.json", folder)
    config = json.loads((special / "config.json").read_text())
    config["alignment_heads"] = [[shape.layers // 2, 0]]
    (folder / "config.json").write_text(json.dumps(config))
