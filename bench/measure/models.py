"""The measured models: folders in faster-whisper's format, which both systems load."""

import os
import subprocess
from pathlib import Path

#: Real weights, which `scripts/setup-models.sh` fetches.
REAL = ["tiny.en", "base"]
DEFAULT = Path(".tools/models")


def root() -> Path:
    """Folder of the models: can be set to another one with existing models."""
    return Path(os.environ.get("BENCH_MODELS") or DEFAULT)


def folder(name: str) -> Path:
    """Folder of a model; downloaded if missing."""
    if root() == DEFAULT:
        subprocess.run(["sh", "scripts/setup-models.sh", name], check=True, stdout=subprocess.DEVNULL)
    path = root() / name
    if not (path / "model.bin").exists():
        raise SystemExit(f"error: {path} has no model.bin: BENCH_MODELS must name a folder with the model {name} in it")
    return path


def languages(name: str) -> list[str] | None:
    """The model's languages; None: all."""
    return ["en"] if name.endswith(".en") else None
