"""Makes the small models of this folder and their expected logits: the same random weights in every format that the host loads.

    pip install numpy ctranslate2==4.8.5 safetensors ml_dtypes onnx && python make.py

`ctranslate2/` is written by CTranslate2's own serializer, `transformers/` by the safetensors package, `onnx/` as plain ONNX
operators. `expected.json` has the logits computed by the NumPy implementation below. Every weight is an integer between -127 and
127, divided by 1024 (by 64 if it scales a normalisation), with a 127 in each block of 32, so that every format, int8 included,
represents exactly the same numbers.
"""

import json
import math
import pathlib
import shutil

import ml_dtypes
import numpy as np
import onnx
from ctranslate2.specs import whisper_spec
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
WIDTH, HEADS, INNER, LAYERS, MELS, POSITIONS, TEXT = 64, 2, 128, 2, 16, 50, 32
rng = np.random.default_rng(7)


def weight(*shape):
    numbers = rng.integers(-127, 128, size=shape)
    numbers.reshape(-1)[:: 32 if shape[-1] % 32 == 0 else shape[-1]] = 127
    return (numbers / 1024).astype(np.float32)


def vocabulary():
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    bytes_ = [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]
    merges = ["Ġt", "Ġa", "he", "in", "re", "Ġthe", "er", "on", "nd", "Ġand", "ing", "Ġthere"]
    special = ["endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    stamps = [f"{0.02 * step:.2f}" for step in range(POSITIONS + 1)]
    return bytes_ + merges + [f"<|{name}|>" for name in special + stamps]


def weights():
    """Returns the weights by their names in transformers."""
    named = {}

    def linear(name, rows, columns, bias=True):
        named[f"{name}.weight"] = weight(rows, columns)
        if bias:
            named[f"{name}.bias"] = weight(rows)

    def norm(name):
        named[f"{name}.weight"] = (1 + np.round(weight(WIDTH) * 256) / 64).astype(np.float32)
        named[f"{name}.bias"] = weight(WIDTH)

    def attention(name):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{name}.{part}", WIDTH, WIDTH, bias=part != "k_proj")

    for name, channels in (("conv1", MELS), ("conv2", WIDTH)):
        named[f"model.encoder.{name}.weight"] = weight(WIDTH, channels, 3)
        named[f"model.encoder.{name}.bias"] = weight(WIDTH)
    named["model.encoder.embed_positions.weight"] = weight(POSITIONS, WIDTH)
    named["model.decoder.embed_positions.weight"] = weight(TEXT, WIDTH)
    named["model.decoder.embed_tokens.weight"] = weight(len(vocabulary()), WIDTH)
    for side in ("encoder", "decoder"):
        for layer in range(LAYERS):
            prefix = f"model.{side}.layers.{layer}"
            attention(f"{prefix}.self_attn")
            norm(f"{prefix}.self_attn_layer_norm")
            if side == "decoder":
                attention(f"{prefix}.encoder_attn")
                norm(f"{prefix}.encoder_attn_layer_norm")
            linear(f"{prefix}.fc1", INNER, WIDTH)
            linear(f"{prefix}.fc2", WIDTH, INNER)
            norm(f"{prefix}.final_layer_norm")
        norm(f"model.{side}.layer_norm")
    return named


# ---- the reference: Whisper's forward pass, in double precision


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


class Reference:
    def __init__(self, named):
        self.w = {name: value.astype(np.float64) for name, value in named.items()}

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def norm(self, name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def attention(self, name, x, states, causal=False):
        split = lambda y: y.reshape(len(y), HEADS, -1).transpose(1, 0, 2)
        q, k, v = (split(self.linear(f"{name}.{p}_proj", y)) for p, y in (("q", x), ("k", states), ("v", states)))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        if causal:
            scores = np.where(np.tril(np.ones(scores.shape[1:])) > 0, scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        return self.linear(f"{name}.out_proj", (scores @ v).transpose(1, 0, 2).reshape(len(x), -1))

    def feed_forward(self, prefix, x):
        return x + self.linear(f"{prefix}.fc2", gelu(self.linear(f"{prefix}.fc1", self.norm(f"{prefix}.final_layer_norm", x))))

    def conv(self, name, x, stride):
        kernel, padded = self.w[f"{name}.weight"], np.pad(x, ((0, 0), (1, 1)))
        columns = range(0, x.shape[1], stride)
        return np.stack([np.tensordot(kernel, padded[:, c : c + 3], 2) for c in columns], 1) + self.w[f"{name}.bias"][:, None]

    def encode(self, features):
        x = gelu(self.conv("model.encoder.conv2", gelu(self.conv("model.encoder.conv1", features, 1)), 2)).T
        x = x + self.w["model.encoder.embed_positions.weight"]
        for layer in range(LAYERS):
            prefix = f"model.encoder.layers.{layer}"
            normed = self.norm(f"{prefix}.self_attn_layer_norm", x)
            x = self.feed_forward(prefix, x + self.attention(f"{prefix}.self_attn", normed, normed))
        return self.norm("model.encoder.layer_norm", x)

    def decode(self, tokens, states):
        table = self.w["model.decoder.embed_tokens.weight"]
        x = table[tokens] + self.w["model.decoder.embed_positions.weight"][: len(tokens)]
        for layer in range(LAYERS):
            prefix = f"model.decoder.layers.{layer}"
            normed = self.norm(f"{prefix}.self_attn_layer_norm", x)
            x = x + self.attention(f"{prefix}.self_attn", normed, normed, causal=True)
            x = x + self.attention(f"{prefix}.encoder_attn", self.norm(f"{prefix}.encoder_attn_layer_norm", x), states)
            x = self.feed_forward(prefix, x)
        return self.norm("model.decoder.layer_norm", x) @ table.T


# ---- the formats


def write_transformers(folder, named, dtype, shards=1):
    folder.mkdir(parents=True)
    cast = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    tensors = {name: value.astype(cast) for name, value in named.items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        index = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            part = {name: tensors[name] for name in sorted(tensors)[shard::shards]}
            save_file(part, folder / file)
            index |= dict.fromkeys(part, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}, indent=1))
    write_settings(folder)
    tokens = vocabulary()
    end = tokens.index("<|endoftext|>")
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens[:end])}, ensure_ascii=False))
    (folder / "added_tokens.json").write_text(json.dumps({token: id for id, token in enumerate(tokens) if id >= end}, indent=1))


def write_settings(folder):
    tokens = vocabulary()
    id = lambda name: tokens.index(f"<|{name}|>")
    settings = dict(model_type="whisper", d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS, encoder_attention_heads=HEADS)
    settings |= dict(decoder_attention_heads=HEADS, vocab_size=len(tokens), num_mel_bins=MELS)
    settings |= dict(max_source_positions=POSITIONS, max_target_positions=TEXT)
    generation = dict(eos_token_id=id("endoftext"), decoder_start_token_id=id("startoftranscript"), is_multilingual=False)
    generation |= dict(no_timestamps_token_id=id("notimestamps"), prev_sot_token_id=id("startofprev"), max_length=TEXT)
    generation |= dict(suppress_tokens=[0], begin_suppress_tokens=[1], alignment_heads=[[1, 0], [1, 1]])
    preprocessor = dict(feature_size=MELS, hop_length=160, sampling_rate=16000, n_fft=400, nb_max_frames=2 * POSITIONS)
    for name, fields in (("config", settings), ("generation_config", generation), ("preprocessor_config", preprocessor)):
        (folder / f"{name}.json").write_text(json.dumps(fields, indent=1))


def write_ctranslate2(folder, named, quantization):
    named = {name: value.copy() for name, value in named.items()}  # as they are quantised in place
    spec = whisper_spec.WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)

    def linear(target, *names):
        target.weight = np.concatenate([named[f"{name}.weight"] for name in names])
        zero = np.zeros(WIDTH, np.float32)
        target.bias = np.concatenate([named.get(f"{name}.bias", zero) for name in names])

    def norm(target, name):
        target.gamma, target.beta = named[f"{name}.weight"], named[f"{name}.bias"]

    for side, target in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        target.position_encodings.encodings = named[f"model.{side}.embed_positions.weight"]
        norm(target.layer_norm, f"model.{side}.layer_norm")
        for layer, into in enumerate(target.layer):
            prefix = f"model.{side}.layers.{layer}"
            norm(into.self_attention.layer_norm, f"{prefix}.self_attn_layer_norm")
            linear(into.self_attention.linear[0], *(f"{prefix}.self_attn.{p}_proj" for p in "qkv"))
            linear(into.self_attention.linear[1], f"{prefix}.self_attn.out_proj")
            if side == "decoder":
                norm(into.attention.layer_norm, f"{prefix}.encoder_attn_layer_norm")
                linear(into.attention.linear[0], f"{prefix}.encoder_attn.q_proj")
                linear(into.attention.linear[1], *(f"{prefix}.encoder_attn.{p}_proj" for p in "kv"))
                linear(into.attention.linear[2], f"{prefix}.encoder_attn.out_proj")
            norm(into.ffn.layer_norm, f"{prefix}.final_layer_norm")
            linear(into.ffn.linear_0, f"{prefix}.fc1")
            linear(into.ffn.linear_1, f"{prefix}.fc2")
    for name in ("conv1", "conv2"):
        conv = getattr(spec.encoder, name)
        conv.weight, conv.bias = named[f"model.encoder.{name}.weight"], named[f"model.encoder.{name}.bias"]
    spec.decoder.embeddings.weight = named["model.decoder.embed_tokens.weight"]
    spec.decoder.projection.weight = named["model.decoder.embed_tokens.weight"]
    tokens = vocabulary()
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [0], [1]
    spec.config.alignment_heads, spec.config.lang_ids = [(1, 0), (1, 1)], []
    spec.validate()
    spec.optimize(quantization)
    folder.mkdir(parents=True)
    spec.save(str(folder))


def write_onnx(folder, named):
    (folder / "onnx").mkdir(parents=True)
    float_, int_ = TensorProto.FLOAT, TensorProto.INT64

    class Graph:
        def __init__(self):
            self.nodes, self.initializers = [], {}

        def const(self, name, value):
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            return name

        def op(self, operator, *inputs, to=None, **attributes):
            to = to or f"v{len(self.nodes)}"
            self.nodes.append(helper.make_node(operator, list(inputs), [to], **attributes))
            return to

        def linear(self, name, x, to=None):
            y = self.op("MatMul", x, self.const(f"{name}.T", named[f"{name}.weight"].T), to=None if f"{name}.bias" in named else to)
            if f"{name}.bias" not in named:
                return y
            return self.op("Add", y, self.const(f"{name}.bias", named[f"{name}.bias"]), to=to)

        def norm(self, name, x, to=None):
            weights = (self.const(f"{name}.{part}", named[f"{name}.{part}"]) for part in ("weight", "bias"))
            return self.op("LayerNormalization", x, *weights, to=to, axis=-1, epsilon=1e-5)

        def gelu(self, x):
            half = self.const("half", np.float32(0.5))
            root = self.op("Div", x, self.const("root", np.float32(np.sqrt(2))))
            return self.op("Mul", self.op("Mul", x, half), self.op("Add", self.op("Erf", root), self.const("one", np.float32(1))))

        def split(self, x, to=None):
            shape = self.const("split", np.array([0, 0, HEADS, WIDTH // HEADS]))
            return self.op("Transpose", self.op("Reshape", x, shape), to=to, perm=[0, 2, 1, 3])

        def attend(self, name, q, k, v, mask=None):
            scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
            scores = self.op("Div", scores, self.const("scale", np.float32(np.sqrt(WIDTH / HEADS))))
            if mask:
                scores = self.op("Add", scores, mask)
            mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
            mixed = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), self.const("join", np.array([0, 0, WIDTH])))
            return self.linear(f"{name}.out_proj", mixed)

        def feed_forward(self, prefix, x):
            y = self.gelu(self.linear(f"{prefix}.fc1", self.norm(f"{prefix}.final_layer_norm", x)))
            return self.op("Add", x, self.linear(f"{prefix}.fc2", y))

        def save(self, path, inputs, outputs):
            info = lambda items: [helper.make_tensor_value_info(*item) for item in items]
            graph = helper.make_graph(self.nodes, path.stem, info(inputs), info(outputs), list(self.initializers.values()))
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
            onnx.checker.check_model(model)
            onnx.save(model, path)

    encoder = Graph()
    x = "input_features"
    for name, stride in (("conv1", 1), ("conv2", 2)):
        weights = [encoder.const(f"{name}.{p}", named[f"model.encoder.{name}.{p}"]) for p in ("weight", "bias")]
        x = encoder.gelu(encoder.op("Conv", x, *weights, kernel_shape=[3], pads=[1, 1], strides=[stride]))
    x = encoder.op("Transpose", x, perm=[0, 2, 1])
    x = encoder.op("Add", x, encoder.const("positions", named["model.encoder.embed_positions.weight"]))
    for layer in range(LAYERS):
        prefix = f"model.encoder.layers.{layer}"
        y = encoder.norm(f"{prefix}.self_attn_layer_norm", x)
        q, k, v = (encoder.split(encoder.linear(f"{prefix}.self_attn.{p}_proj", y)) for p in "qkv")
        x = encoder.op("Add", x, encoder.attend(f"{prefix}.self_attn", q, k, v))
        x = encoder.feed_forward(prefix, x)
    encoder.norm("model.encoder.layer_norm", x, to="last_hidden_state")
    inputs = [("input_features", float_, ["b", MELS, 2 * POSITIONS])]
    encoder.save(folder / "onnx/encoder_model.onnx", inputs, [("last_hidden_state", float_, ["b", POSITIONS, WIDTH])])

    for first in (True, False):
        g = Graph()
        inputs, outputs = [("input_ids", int_, ["b", "t"])], [("logits", float_, ["b", "t", len(vocabulary())])]
        cache = ["b", HEADS, "s", WIDTH // HEADS]
        zero, one = g.const("zero", np.array([0])), g.const("onei", np.array([1]))
        new = g.op("Gather", g.op("Shape", "input_ids"), one, axis=0)
        if first:
            inputs.append(("encoder_hidden_states", float_, ["b", POSITIONS, WIDTH]))
            begin = zero
        else:
            begin = g.op("Gather", g.op("Shape", "past_key_values.0.decoder.key"), g.const("two", np.array([2])), axis=0)
        end = g.op("Add", begin, new)
        embedded = g.op("Gather", g.const("embeddings", named["model.decoder.embed_tokens.weight"]), "input_ids")
        table = g.const("table", named["model.decoder.embed_positions.weight"])
        x = g.op("Add", embedded, g.op("Slice", table, begin, end, zero))
        triangle = np.triu(np.full((TEXT, TEXT), -np.inf, np.float32), 1)
        rows = g.op("Slice", g.const("triangle", triangle), begin, end, zero)
        mask = g.op("Slice", rows, zero, end, one)
        for layer in range(LAYERS):
            prefix = f"model.decoder.layers.{layer}"
            y = g.norm(f"{prefix}.self_attn_layer_norm", x)
            q = g.split(g.linear(f"{prefix}.self_attn.q_proj", y))
            pair = []
            for part, what in (("k", "key"), ("v", "value")):
                present = f"present.{layer}.decoder.{what}"
                outputs.append((present, float_, cache))
                if first:
                    pair.append(g.split(g.linear(f"{prefix}.self_attn.{part}_proj", y), to=present))
                else:
                    past = f"past_key_values.{layer}.decoder.{what}"
                    inputs.append((past, float_, cache))
                    pair.append(g.op("Concat", past, g.split(g.linear(f"{prefix}.self_attn.{part}_proj", y)), to=present, axis=2))
            x = g.op("Add", x, g.attend(f"{prefix}.self_attn", q, *pair, mask))
            q = g.split(g.linear(f"{prefix}.encoder_attn.q_proj", g.norm(f"{prefix}.encoder_attn_layer_norm", x)))
            pair = []
            for part, what in (("k", "key"), ("v", "value")):
                if first:
                    present = f"present.{layer}.encoder.{what}"
                    outputs.append((present, float_, cache))
                    pair.append(g.split(g.linear(f"{prefix}.encoder_attn.{part}_proj", "encoder_hidden_states"), to=present))
                else:
                    pair.append(f"past_key_values.{layer}.encoder.{what}")
                    inputs.append((pair[-1], float_, cache))
            x = g.op("Add", x, g.attend(f"{prefix}.encoder_attn", q, *pair))
            x = g.feed_forward(prefix, x)
        table = g.const("projection", named["model.decoder.embed_tokens.weight"].T)
        g.op("MatMul", g.norm("model.decoder.layer_norm", x), table, to="logits")
        g.save(folder / f"onnx/decoder_{'' if first else 'with_past_'}model.onnx", inputs, outputs)
    write_settings(folder)
    tokens = vocabulary()
    (folder / "vocabulary.json").write_text(json.dumps(tokens, ensure_ascii=False))


def main():
    for name in ("transformers", "ctranslate2", "onnx"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    named = weights()
    for dtype in ("float32", "float16", "bfloat16"):
        write_transformers(HERE / "transformers" / dtype, named, dtype)
    write_transformers(HERE / "transformers/sharded", named, "float16", shards=3)
    for quantization in ("float32", "float16", "int8", "int8_float16"):  # bfloat16 would need PyTorch
        write_ctranslate2(HERE / "ctranslate2" / quantization, named, quantization)
    write_onnx(HERE / "onnx", named)

    # Frames as the host receives them: log10 mel power, which it normalises by the loudest value.
    frames = rng.uniform(-4, 1, (2 * POSITIONS, MELS)).round(2)
    features = (np.maximum(frames, frames.max() - 8) + 4) / 4
    tokens = vocabulary()
    prompt = [tokens.index("<|startoftranscript|>"), tokens.index("<|notimestamps|>"), 256, 7, 32]
    reference = Reference(named)
    logits = reference.decode(prompt, reference.encode(features.T))
    expected = dict(frames=frames.reshape(-1).tolist(), tokens=prompt, logits=logits.reshape(-1).round(5).tolist())
    (HERE / "expected.json").write_text(json.dumps(expected))


main()
