"""The checkpoint that the repository keeps: the mean of the weights in half precision, the phonemes' numbers and the
tokenizer. The rest, four times as large, grows back in a few hundred steps."""

import json
import shutil

import torch

from .layout import TRAINING, Work
from .model import Shape, Whisper

FOLDER = TRAINING / "checkpoint"


def keep(work: Work) -> None:
    """Replaces what is kept with the trunk as it is now."""
    state = torch.load(work.run / "trunk.pt", map_location="cpu", weights_only=True)
    # The encoder's position embedding is a formula.
    mean = {name: value.half() for name, value in state["mean"].items() if "encoder.embed_positions" not in name}
    FOLDER.mkdir(exist_ok=True)
    torch.save({"shape": state["shape"], "mean": mean, "progress": state["progress"]}, FOLDER / "trunk.pt")
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
    model.load_state_dict({name: value.float() for name, value in state["mean"].items()}, strict=False)
    state["mean"] = {name: parameter.detach() for name, parameter in model.named_parameters()}
    torch.save(state | {"model": model.state_dict(), "optimizers": []}, work.run / "trunk.pt")
    print(f"keep: restored at {json.dumps(state['progress'])}", flush=True)
