"""Where the steps keep their files, and the few numbers that all of them share."""

from pathlib import Path

TRAINING = Path(__file__).resolve().parent.parent

SAMPLE_RATE = 16_000
"""Hz, of all audio in this package."""

WINDOW = 10.0
"""Seconds that the model hears at once. Whisper has 30; a third of that is a third of the work for the short clips that
most requests are, and a window of training audio costs a third too."""

FRAMES_PER_SECOND = 100
"""Log-mel frames a second, as in Whisper: one every 160 samples."""

POSITIONS_PER_SECOND = 50
"""Encoder positions a second: its second convolution halves the frames. A time stamp token is one position, 0.02 s."""

MELS = 80


def write(path: Path, text: str) -> None:
    """Writes a file in one step: an interruption leaves none, or the old one."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


class Work:
    """The folder of everything that is made on the way; any of it can be deleted and is then made again."""

    def __init__(self, root: Path) -> None:
        self.packages = root / "packages"
        self.text = root / "text"
        self.speech = root / "speech"
        self.tokenizer = root / "tokenizer.json"
        self.run = root / "run"
        self.model = root / "model"
        self.exported = root / "exported.json"
        self.evaluation = root / "evaluation.json"
