"""The checkpoint that the repository keeps: the present and the mean weights in half precision, the phonemes' numbers and
the tokenizer. The optimizers' state is left out; it is four times as large, and grows back in a few hundred steps."""

import json
import shutil

import torch

from .layout import TRAINING, Work
from .model import Shape, Whisper

FOLDER = TRAINING / "checkpoint"


def keep(work: Work) -> None:
    """Replaces what is kept with the trunk as it is now."""
    state = torch.load(work.run / "trunk.pt", map_location="cpu", weights_only=True)
    del state["optimizers"]
    for part in ("model", "mean"):
        # The encoder's position embedding is a formula.
        kept = {name: value for name, value in state[part].items() if "encoder.embed_positions" not in name}
        state[part] = {name: value.half() for name, value in kept.items()}
    FOLDER.mkdir(exist_ok=True)
    torch.save(state, FOLDER / "trunk.pt")
    shutil.copy(work.run / "phonemes.json", FOLDER)
    shutil.copy(work.tokenizer, FOLDER)
    size = (FOLDER / "trunk.pt").stat().st_size / 1e6
    print(f"keep: {size:.1f} MB, {state['progress']['audio_seconds'] / 3600:.1f} h of audio", flush=True)


def restore(work: Work) -> None:
    """Begins a trunk from what is kept, unless there is one. The optimizers begin anew."""
    if (work.run / "trunk.pt").exists():
        print("keep: there is a trunk already", flush=True)
        return
    work.run.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / "phonemes.json", work.run)
    shutil.copy(FOLDER / "tokenizer.json", work.tokenizer)
    state = torch.load(FOLDER / "trunk.pt", map_location="cpu", weights_only=True)
    model = Whisper(Shape(**state["shape"]))
    whole = model.state_dict()
    for part in ("model", "mean"):
        state[part] = {name: value.float() for name, value in state[part].items()}
    state["model"] = whole | state["model"]
    state["mean"] = {name: state["mean"].get(name, parameter.detach()) for name, parameter in model.named_parameters()}
    torch.save(state | {"optimizers": []}, work.run / "trunk.pt")
    print(f"keep: restored at {json.dumps(state['progress'])}", flush=True)
