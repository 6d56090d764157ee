"""The tokenizer: byte-level BPE as Whisper's, trained on the training sentences, then Whisper's special tokens and one
time stamp for every 0.02 s of the window."""

from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import layout, text
from .layout import POSITIONS_PER_SECOND, WINDOW, Work

PIECES = 1024
"""Pieces of BPE. Small, because every piece must be learned from few hours of speech; a word has two pieces or so."""

SPECIALS = (
    "<|endoftext|> <|startoftranscript|> <|en|> <|translate|> <|transcribe|> <|startoflm|> <|startofprev|> <|nospeech|> "
    "<|notimestamps|>"
).split()
"""In Whisper's order. `<|translate|>` and `<|startoflm|>` are never used; loaders look for them."""

CONTEXT = 224
"""Most tokens of prompt and text together."""


@dataclass(frozen=True)
class Specials:
    """The ids that training and decoding name."""

    end: int
    start: int
    english: int
    transcribe: int
    previous: int
    no_speech: int
    no_timestamps: int
    first_timestamp: int


def make(work: Work) -> None:
    """Trains the tokenizer, unless it is there."""
    if work.tokenizer.exists():
        return
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((f" {row['text']}" for row in text.load(work, "train")), trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    stamps = range(round(WINDOW * POSITIONS_PER_SECOND) + 1)
    tokenizer.add_tokens([AddedToken(f"<|{stamp / POSITIONS_PER_SECOND:.2f}|>", normalized=False) for stamp in stamps])
    layout.write(work.tokenizer, tokenizer.to_str(pretty=True))


def load(work: Work) -> tuple[Tokenizer, Specials]:
    tokenizer = Tokenizer.from_file(str(work.tokenizer))
    names = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>"]
    return tokenizer, Specials(*(tokenizer.token_to_id(name) for name in [*names, "<|notimestamps|>", "<|0.00|>"]))
