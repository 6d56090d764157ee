"""Make the fixtures of the tests: log-mel frames of synthetic speech, and what an independent implementation of greedy
decoding makes of them.

    python make_fixtures.py

Needs espeak-ng, and the Python packages numpy, onnxruntime, tokenizers and transformers. Writes fixtures/NAME.f16
(float16, little-endian, [frames, 80]: log10 mel power, not normalised) and fixtures/expected.json. Run it again when
the bundled model changes.

The mel filters are those of transformers' WhisperFeatureExtractor; the spectrogram and the decoding loop are plain numpy
and onnxruntime, and share no code with this crate.
"""

import json
import pathlib
import subprocess

import numpy as np
import onnxruntime
from tokenizers import Tokenizer
from transformers import WhisperFeatureExtractor

HERE = pathlib.Path(__file__).parent / "fixtures"
MODEL = pathlib.Path(__file__).parents[3] / "models" / "bundled"

RECORDINGS = {
    "short": ["The happy child found a brave lantern from the green lake."],
    "other": ["The lonely soldier and the farmer walked to the harbor.", "The witch hid the blue key."],
    "long": [
        "There was a potion beyond the white island, but the red witch stole it.",
        "The merchant and the hidden knight walked to the silver road.",
        "The clever princess found a rope near the city.",
        "In the morning, the great princess hid a brave rope.",
        "There was a silent lantern behind the inn, but the black princess opened it.",
    ],
}


def speak(text):
    wav = subprocess.run(["espeak-ng", "-v", "en", "-s", "160", "--stdout", text], check=True, capture_output=True).stdout
    resampled = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", "-", "-ar", "16000", "-ac", "1", "-f", "wav", "-"],
        input=wav, check=True, capture_output=True,
    ).stdout
    data = resampled[resampled.index(b"data") + 8 :]
    return np.frombuffer(data[: len(data) // 2 * 2], np.int16).astype(np.float32) / 32768


def log_mel(samples, filters):
    window = np.hanning(401)[:-1]
    padded = np.pad(samples, 200, mode="reflect")
    count = len(samples) // 160
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:count] * window
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return np.log10(np.maximum(power @ filters, 1e-10))


def greedy(frames, sessions, tokenizer, generation, config):
    """Greedy decoding without time stamps of frames that fit one window."""
    encoder, first, following = sessions
    window = 2 * config["max_source_positions"]
    mel = np.full((window, frames.shape[1]), -10.0, np.float32)
    mel[: len(frames)] = frames
    mel = (np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
    states = encoder.run(None, {"input_features": mel.T[None]})[0]
    prompt = [
        generation["decoder_start_token_id"],
        generation["lang_to_id"]["<|en|>"],
        generation["task_to_id"]["transcribe"],
        generation["no_timestamps_token_id"],
    ]
    end = generation["eos_token_id"]
    feed = {"input_ids": np.array([prompt], np.int64), "encoder_hidden_states": states}
    names = [output.name for output in first.get_outputs()]
    outputs = dict(zip(names, first.run(None, feed)))
    cache = {name.replace("present", "past_key_values"): value for name, value in outputs.items() if name != "logits"}
    tokens = []
    while len(tokens) < 100:
        logits = outputs["logits"][0, -1].copy()
        logits[end + 1 :] = -np.inf
        logits[generation["suppress_tokens"]] = -np.inf
        if not tokens:
            logits[generation["begin_suppress_tokens"]] = -np.inf
        token = int(logits.argmax())
        if token == end:
            break
        tokens.append(token)
        feed = {"input_ids": np.array([[token]], np.int64), **cache}
        names = [output.name for output in following.get_outputs()]
        outputs = dict(zip(names, following.run(None, feed)))
        cache.update({name.replace("present", "past_key_values"): value for name, value in outputs.items() if name != "logits"})
    return tokenizer.decode(tokens).strip()


def main():
    HERE.mkdir(exist_ok=True)
    filters = np.asarray(WhisperFeatureExtractor().mel_filters)
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    generation = json.loads((MODEL / "generation_config.json").read_text())
    config = json.loads((MODEL / "config.json").read_text())
    sessions = [
        onnxruntime.InferenceSession(MODEL / "onnx" / f"{name}_quantized.onnx", providers=["CPUExecutionProvider"])
        for name in ("encoder_model", "decoder_model", "decoder_with_past_model")
    ]
    expected = {}
    for name, sentences in RECORDINGS.items():
        pause = np.zeros(16000 * 4 // 10, np.float32)
        samples = np.concatenate([part for text in sentences for part in (speak(text), pause)])
        frames = log_mel(samples, filters).astype("<f2")
        frames.tofile(HERE / f"{name}.f16")
        expected[name] = {"spoken": " ".join(sentences)}
        if len(frames) <= 2 * config["max_source_positions"]:
            expected[name]["greedy"] = greedy(frames.astype(np.float32), sessions, tokenizer, generation, config)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
