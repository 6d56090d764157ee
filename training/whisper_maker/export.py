"""The export step: a checkpoint becomes a Hugging Face folder with ONNX graphs in fp32 and int8."""

import json
import shutil
from pathlib import Path

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

from . import layout, tokens
from .graphs import EncoderGraph, FirstStep, NextStep
from .layout import FRAMES_PER_SECOND, MELS, SAMPLE_RATE, WINDOW, Work
from .merge import merge
from .model import Shape, Whisper
from .tokens import CONTEXT, SPECIALS

OPSET = 17
BEAM_SIZE = 5
"""As wide as the reference's. Of the words of dev's free text 16.0 % were wrong with 1, 11.7 % with 3, 11.2 % with 5, and
11.3 % with 8."""

PARTS = ("encoder_model", "decoder_model", "decoder_with_past_model")


def newest(work: Work) -> Path:
    """The cooldown if there is one, else the trunk."""
    for path in (work.run / "cooldown.pt", work.run / "trunk.pt"):
        if path.exists():
            return path
    raise SystemExit("error: there is no checkpoint yet: run the step `train` first")


def load(state: dict) -> Whisper:
    """The mean of a checkpoint's weights."""
    model = Whisper(Shape(**state["shape"]))
    model.load_state_dict(state["mean"])
    return model.eval()


def write_settings(work: Work, shape: Shape, folder: Path) -> None:
    """Everything but the weights."""
    tokenizer, ids = tokens.load(work)
    space = tokenizer.encode(" ").ids[0]
    common = {
        "bos_token_id": ids.end,
        "eos_token_id": ids.end,
        "pad_token_id": ids.end,
        "decoder_start_token_id": ids.start,
        "begin_suppress_tokens": [space],  # the end may come at once: that is how silence is written
    }
    WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=MELS,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
        max_source_positions=shape.positions,
        max_target_positions=CONTEXT,
        dropout=0.0,
        architectures=["WhisperForConditionalGeneration"],
        suppress_tokens=[],
        **common,
    ).save_pretrained(folder)
    GenerationConfig(
        max_length=CONTEXT,
        suppress_tokens=[tokenizer.token_to_id(name) for name in SPECIALS if name != "<|endoftext|>"],
        is_multilingual=True,
        lang_to_id={"<|en|>": ids.english},
        task_to_id={"transcribe": ids.transcribe, "translate": tokenizer.token_to_id("<|translate|>")},
        no_timestamps_token_id=ids.no_timestamps,
        prev_sot_token_id=ids.previous,
        max_initial_timestamp_index=shape.positions,
        return_timestamps=False,
        num_beams=BEAM_SIZE,
        **common,
    ).save_pretrained(folder)
    WhisperFeatureExtractor(
        feature_size=MELS, sampling_rate=SAMPLE_RATE, hop_length=160, chunk_length=int(WINDOW), n_fft=400
    ).save_pretrained(folder)

    shutil.copy(work.tokenizer, folder / "tokenizer.json")
    whole = json.loads(work.tokenizer.read_text(encoding="utf-8"))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
    end = "<|endoftext|>"
    for name, content in {
        "vocab.json": whole["model"]["vocab"],
        "added_tokens.json": {token["content"]: token["id"] for token in whole["added_tokens"]},
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizerFast",
            "bos_token": end,
            "eos_token": end,
            "unk_token": end,
            "pad_token": end,
            "model_max_length": CONTEXT,
            "add_prefix_space": False,
            "errors": "replace",
        },
    }.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def names(prefix: str, shape: Shape, sides: tuple[str, ...] = ("decoder", "encoder")) -> list[str]:
    """Names of caches in the order of the graphs: layer, side, key and value."""
    layers = range(shape.decoder_layers)
    return [f"{prefix}.{layer}.{side}.{part}" for layer in layers for side in sides for part in ("key", "value")]


@torch.no_grad()
def write_graphs(model: Whisper, folder: Path) -> None:
    """The three graphs in fp32."""
    shape = model.shape
    settings = {"opset_version": OPSET, "dynamo": False}
    mel = torch.zeros(2, MELS, round(WINDOW * FRAMES_PER_SECOND))
    encoder = EncoderGraph(model.encoder)
    encoded = encoder(mel)
    batch = {0: "batch_size"}
    torch.onnx.export(
        encoder, (mel,), str(folder / "encoder_model.onnx"),
        input_names=["input_features"], output_names=["last_hidden_state"],
        dynamic_axes={"input_features": batch, "last_hidden_state": batch}, **settings,
    )  # fmt: skip

    first, start = FirstStep(model.decoder), torch.zeros(2, 4, dtype=torch.long)
    present = names("present", shape)
    length = {
        name: {**batch, 2: "decoder_sequence_length" if ".decoder." in name else "encoder_sequence_length"}
        for name in present
    }
    tokens_axes = {**batch, 1: "decoder_sequence_length"}
    torch.onnx.export(
        first, (start, encoded), str(folder / "decoder_model.onnx"),
        input_names=["input_ids", "encoder_hidden_states"], output_names=["logits", *present],
        dynamic_axes={
            "input_ids": tokens_axes, "encoder_hidden_states": {**batch, 1: "encoder_sequence_length"},
            "logits": tokens_axes, **length,
        }, **settings,
    )  # fmt: skip

    past, grown = names("past_key_values", shape), names("present", shape, ("decoder",))
    caches = first(start, encoded)[1:]
    axes = {
        name: {**batch, 2: "past_decoder_sequence_length" if ".decoder." in name else "encoder_sequence_length"}
        for name in past
    }
    axes |= {name: {**batch, 2: "past_decoder_sequence_length + 1"} for name in grown}
    torch.onnx.export(
        NextStep(first), (start[:, :1], *caches), str(folder / "decoder_with_past_model.onnx"),
        input_names=["input_ids", *past], output_names=["logits", *grown],
        dynamic_axes={"input_ids": batch, "logits": batch, **axes}, **settings,
    )  # fmt: skip


def export(work: Work, checkpoint: Path) -> None:
    """Writes the folder `model/` anew, and from what it was made for its card."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = load(state)
    onnx_folder = work.model / "onnx"
    shutil.rmtree(work.model, ignore_errors=True)
    work.evaluation.unlink(missing_ok=True)  # it was another model's
    layout.write(work.exported, json.dumps({"shape": state["shape"], "progress": state["progress"]}))
    onnx_folder.mkdir(parents=True)
    write_settings(work, model.shape, work.model)
    write_graphs(model, onnx_folder)
    for part in PARTS:
        quantize_dynamic(
            onnx_folder / f"{part}.onnx",
            onnx_folder / f"{part}_quantized.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # seven bits: AVX2 adds pairs of products in 16 bits, which eight would overflow
            op_types_to_quantize=["MatMul"] if part == "encoder_model" else ["MatMul", "Gather"],
            extra_options={"MatMulConstBOnly": True},  # products of two activations lose too much in int8
        )
    for suffix in ("", "_quantized"):
        first, later, merged = (onnx_folder / f"{name}{suffix}.onnx" for name in (*PARTS[1:], "decoder_model_merged"))
        merge(first, later, merged)
    (onnx_folder / "decoder_model.onnx").unlink()  # in fp32 the merged form is enough
    (onnx_folder / "decoder_with_past_model.onnx").unlink()
    for file in sorted(onnx_folder.iterdir()):
        print(f"export: {file.name}: {file.stat().st_size / 1e6:.1f} MB", flush=True)
