"""Makes the test fixtures: log-mel frames of synthetic speech, and their transcripts by an independent implementation of
greedy decoding and beam search.

    python make_fixtures.py

Needs espeak-ng, and the Python packages numpy, onnxruntime, tokenizers and transformers. Writes fixtures/NAME.f16
(float16, little-endian, [frames, 80]: log10 mel power, not normalised) and fixtures/expected.json. Run it again when
the test model changes.

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
MODEL = pathlib.Path(__file__).parents[3] / "test" / "models" / "synthetic"

RECORDINGS = {
    "short": ["The happy child found a brave lantern from the green lake."],
    "other": ["The lonely soldier and the farmer walked to the harbor.", "The witch hid the blue key."],
    "rare": ["The archivist catalogued a parchment of the abbey."],
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


def encode(frames, encoder, config):
    """Returns the encoder's states for frames that fit one window."""
    window = 2 * config["max_source_positions"]
    mel = np.full((window, frames.shape[1]), -10.0, np.float32)
    mel[: len(frames)] = frames
    mel = (np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
    return encoder.run(None, {"input_features": mel.T[None]})[0]


def start(generation):
    """Returns the prompt of a transcript without timestamps."""
    return [
        generation["decoder_start_token_id"],
        generation["lang_to_id"]["<|en|>"],
        generation["task_to_id"]["transcribe"],
        generation["no_timestamps_token_id"],
    ]


def allowed(logits, first, generation):
    """Returns the logits, with minus infinity for forbidden tokens."""
    logits = logits.copy()
    logits[generation["eos_token_id"] + 1 :] = -np.inf
    logits[generation["suppress_tokens"]] = -np.inf
    if first:
        logits[generation["begin_suppress_tokens"]] = -np.inf
    return logits


def greedy(states, sessions, tokenizer, generation):
    """Greedy decoding."""
    first, following = sessions
    prompt, end = start(generation), generation["eos_token_id"]
    feed = {"input_ids": np.array([prompt], np.int64), "encoder_hidden_states": states}
    names = [output.name for output in first.get_outputs()]
    outputs = dict(zip(names, first.run(None, feed)))
    cache = {name.replace("present", "past_key_values"): value for name, value in outputs.items() if name != "logits"}
    tokens = []
    while len(tokens) < 100:
        token = int(allowed(outputs["logits"][0, -1], not tokens, generation).argmax())
        if token == end:
            break
        tokens.append(token)
        feed = {"input_ids": np.array([[token]], np.int64), **cache}
        names = [output.name for output in following.get_outputs()]
        outputs = dict(zip(names, following.run(None, feed)))
        cache.update({name.replace("present", "past_key_values"): value for name, value in outputs.items() if name != "logits"})
    return tokenizer.decode(tokens).strip()


def beam(states, decoder, tokenizer, generation, config, size=5, unlikely=0.1):
    """Beam search that computes each hypothesis separately and from its first token. `decoder` is a merged one, in fp32."""
    prompt, end = start(generation), generation["eos_token_id"]
    empty = np.zeros((1, config["decoder_attention_heads"], 0, 64), np.float32)
    caches = {i.name: empty for i in decoder.get_inputs() if i.name.startswith("past_key_values")}

    def logprobs(tokens):
        ids = np.array([prompt + tokens], np.int64)
        feed = {"input_ids": ids, "encoder_hidden_states": states, "use_cache_branch": np.array([False]), **caches}
        logits = allowed(decoder.run(["logits"], feed)[0][0, -1].astype(np.float64), not tokens, generation)
        return logits - np.logaddexp.reduce(logits)

    live, ended, best_ended = [(0.0, [])], [], -np.inf
    while live and len(ended) < size:
        grown = []
        for score, tokens in live:
            scores = logprobs(tokens)
            grown += [(score + scores[token], tokens, int(token)) for token in np.argsort(-scores)[: size + 1]]
        grown.sort(key=lambda one: -one[0])
        if grown[0][2] == end and not grown[0][1]:
            return ""
        least, live = max(grown[0][0], best_ended) + np.log(unlikely), []
        for score, tokens, token in grown:
            if len(live) == size or score < least:
                break
            if token == end:
                ended.append((score / (len(tokens) + 1), tokens))
                best_ended = max(best_ended, score)
            else:
                live.append((score, [*tokens, token]))
    return tokenizer.decode(max(ended[:size])[1]).strip()


def main():
    HERE.mkdir(exist_ok=True)
    filters = np.asarray(WhisperFeatureExtractor().mel_filters)
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    generation = json.loads((MODEL / "generation_config.json").read_text())
    config = json.loads((MODEL / "config.json").read_text())

    def session(name):
        return onnxruntime.InferenceSession(MODEL / "onnx" / f"{name}.onnx", providers=["CPUExecutionProvider"])

    encoder, *decoders = (session(f"{name}_quantized") for name in ("encoder_model", "decoder_model", "decoder_with_past_model"))
    encoder_fp32, decoder_fp32 = session("encoder_model"), session("decoder_model_merged")
    expected = {}
    for name, sentences in RECORDINGS.items():
        pause = np.zeros(16000 * 4 // 10, np.float32)
        samples = np.concatenate([part for text in sentences for part in (speak(text), pause)])
        frames = log_mel(samples, filters).astype("<f2")
        frames.tofile(HERE / f"{name}.f16")
        expected[name] = {"spoken": " ".join(sentences)}
        if len(frames) <= 2 * config["max_source_positions"]:
            frames = frames.astype(np.float32)
            expected[name]["greedy"] = greedy(encode(frames, encoder, config), decoders, tokenizer, generation)
            states = encode(frames, encoder_fp32, config)
            expected[name]["beam"] = beam(states, decoder_fp32, tokenizer, generation, config)
    if expected["rare"]["beam"] == expected["rare"]["greedy"]:
        raise SystemExit("error: greedy decoding and beam search give the same text for `rare`; choose a sentence that greedy decoding gets wrong")
    (HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
