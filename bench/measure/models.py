"""The models that are measured: folders as faster-whisper has them, which both systems load."""

import os
import subprocess
from pathlib import Path

#: Real weights, which `scripts/setup-models.sh` fetches.
REAL = ["tiny.en", "base"]
DEFAULT = Path(".tools/models")


def root() -> Path:
    """Where the folders lie: another place can be named, with models that are there already."""
    return Path(os.environ.get("BENCH_MODELS") or DEFAULT)


def folder(name: str) -> Path:
    """Fetched where it is missing."""
    if root() == DEFAULT:
        subprocess.run(["sh", "scripts/setup-models.sh", name], check=True, stdout=subprocess.DEVNULL)
    path = root() / name
    if not (path / "model.bin").exists():
        raise SystemExit(f"error: {path} has no model.bin: BENCH_MODELS must name a folder with the model {name} in it")
    return path


def languages(name: str) -> list[str] | None:
    """Those that it is for; none: all."""
    return ["en"] if name.endswith(".en") else None
