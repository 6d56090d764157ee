//! The same weights in every format give the same logits, alone and in batches, and errors about broken files name the file.
//!
//! The models in `tests/small` are written by the packages of CTranslate2, safetensors and ONNX, and the expected logits are computed
//! by a NumPy implementation (`tests/small/make.py`).

use std::path::{Path, PathBuf};

use half::f16;

use super::*;
use crate::LoadError;
use crate::model::{Contents, Precision};
use crate::{Config, Device};

fn small() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/small")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn library() -> PathBuf {
    root().join(".tools/onnxruntime/libonnxruntime.so")
}

pub fn load_with(
    folder: &Path,
    precision: Precision,
    cache: Option<PathBuf>,
) -> Result<(Sessions, Contents), LoadError> {
    let config = Config {
        device: Device::Cpu,
        threads: 2,
        precision,
        cache,
        ..Config::new(folder, library())
    };
    let contents = Contents::read(folder, precision)?;
    Ok((load(&config, &contents)?.sessions, contents))
}

fn sessions(folder: &Path, precision: Precision) -> Sessions {
    load_with(folder, precision, None)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .0
}

fn error(folder: &Path) -> String {
    match load_with(folder, Precision::Fp32, None) {
        Ok(_) => panic!("{} loads", folder.display()),
        Err(error) => error.to_string(),
    }
}

struct Expected {
    frames: Vec<f32>,
    tokens: Vec<i64>,
    logits: Vec<f32>,
}

fn expected() -> Expected {
    let text = std::fs::read_to_string(small().join("expected.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let floats = |name: &str| {
        json[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap() as f32)
            .collect()
    };
    Expected {
        frames: floats("frames"),
        tokens: json["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_i64().unwrap())
            .collect(),
        logits: floats("logits"),
    }
}

/// Returns the logits after each of the tokens, of which the first `prompt` are run at once and the others step by step.
pub fn logits(sessions: &mut Sessions, frames: &[f32], tokens: &[i64], prompt: usize) -> Vec<f32> {
    let (mut states, _) = sessions.encoder.encode(&[frames]).unwrap();
    let (first, mut cache) = sessions
        .decoder
        .first(
            tokens[..prompt].to_vec(),
            &mut states,
            &(0..prompt).collect::<Vec<_>>(),
        )
        .unwrap();
    let (mut all, mut row) = (Vec::new(), Vec::new());
    for position in 0..prompt {
        first.read(0, position, &mut row).unwrap();
        all.extend_from_slice(&row);
    }
    for &token in &tokens[prompt..] {
        let next = sessions.decoder.next(vec![token], &mut cache).unwrap();
        next.read(0, 0, &mut row).unwrap();
        all.extend_from_slice(&row);
    }
    all
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter()
        .zip(other)
        .fold(0.0, |largest, (a, b)| largest.max((a - b).abs()))
}

const FORMATS: [&str; 9] = [
    "ctranslate2/float32",
    "ctranslate2/float16",
    "ctranslate2/int8",
    "ctranslate2/int8_float16",
    "transformers/float32",
    "transformers/float16",
    "transformers/bfloat16",
    "transformers/sharded",
    "onnx",
];

#[test]
fn every_format_of_the_same_weights_gives_the_logits_of_the_reference() {
    let Expected {
        frames,
        tokens,
        logits: expected,
    } = expected();
    for format in FORMATS {
        let mut sessions = sessions(&small().join(format), Precision::Fp32);
        for prompt in [tokens.len(), 2] {
            let found = logits(&mut sessions, &frames, &tokens, prompt);
            let difference = largest_difference(&found, &expected);
            assert!(
                difference < 2e-4,
                "{format}, a prompt of {prompt}: {difference}"
            );
        }
    }
}

#[test]
fn half_precision_and_int8_are_close_to_the_reference() {
    let Expected {
        frames,
        tokens,
        logits: expected,
    } = expected();
    let spread = largest_difference(&expected, &vec![0.0; expected.len()]);
    for format in ["ctranslate2/float16", "transformers/float32"] {
        for (precision, limit) in [(Precision::Fp16, 0.01), (Precision::Int8, 0.05)] {
            let mut sessions = sessions(&small().join(format), precision);
            let found = logits(&mut sessions, &frames, &tokens, 2);
            let difference = largest_difference(&found, &expected) / spread;
            assert!(
                difference < limit,
                "{format}, {precision:?}: {difference} of {spread}"
            );
        }
    }
}

#[test]
fn int8_gives_the_same_logits_with_and_without_cached_weights() {
    let Expected { frames, tokens, .. } = expected();
    let folder = small().join("ctranslate2/float16");
    let kept = tempfile::tempdir().unwrap();
    let mut each = [
        None,
        Some(kept.path().to_owned()),
        Some(kept.path().to_owned()),
    ]
    .map(|cache| {
        let (mut sessions, _) = load_with(&folder, Precision::Int8, cache).unwrap();
        logits(&mut sessions, &frames, &tokens, 2)
    });
    each.sort_by(|one, other| one.partial_cmp(other).unwrap());
    assert_eq!(each[0], each[2]);
    assert_eq!(std::fs::read_dir(kept.path()).unwrap().count(), 1);
}

/// Rows of windows with different numbers of rows give the same logits as each alone.
#[test]
fn rows_of_one_window_attend_to_it_together() {
    let Expected { frames, tokens, .. } = expected();
    let other = frames.iter().rev().copied().collect();
    let small = small().join("transformers/float32");
    rows_together(&small, Precision::Fp32, [frames, other], &tokens[..3]);
    let speech = speech(2).try_into().unwrap();
    rows_together(&tiny(), Precision::Int8, speech, &[50_257, 50_362, 11]);
}

fn rows_together(
    folder: &Path,
    precision: Precision,
    [frames, other]: [Vec<f32>; 2],
    tokens: &[i64],
) {
    let mut sessions = sessions(folder, precision);
    let mut alone = self::sessions(folder, precision);
    let (mut states, _) = sessions.encoder.encode(&[&frames, &other]).unwrap();
    let decoder = &mut sessions.decoder;
    let prompts = [&tokens[..2], &tokens[..2]].concat();
    let (_, mut cache) = decoder.first(prompts, &mut states, &[1]).unwrap();
    decoder.select(&mut cache, &[0, 0, 0, 1]).unwrap();
    let step = decoder.next(vec![5, 6, tokens[2], 7], &mut cache).unwrap();
    let mut row = Vec::new();
    step.read(2, 0, &mut row).unwrap();
    let expected = logits(&mut alone, &frames, tokens, 2);
    let vocabulary = row.len();
    assert!(largest_difference(&row, &expected[2 * vocabulary..]) < 1e-4);

    // The first window ends; the row of the other continues, twice.
    decoder.select(&mut cache, &[3, 3]).unwrap();
    for _ in 0..2 {
        decoder.compact(&mut cache, &[1]).unwrap();
    }
    let step = decoder.next(vec![8, 9], &mut cache).unwrap();
    step.read(1, 0, &mut row).unwrap();
    let tokens = [&tokens[..2], &[7, 9]].concat();
    let expected = logits(&mut alone, &other, &tokens, 2);
    assert!(largest_difference(&row, &expected[3 * vocabulary..]) < 1e-4);
}

/// Windows of speech of different lengths, from different parts of a recording (`tests/fixtures/long.f16`).
fn speech(count: usize) -> Vec<Vec<f32>> {
    const N_MELS: usize = 80;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/long.f16");
    let bytes = std::fs::read(path).unwrap();
    let halves = bytes.as_chunks::<2>().0.iter();
    let frames: Vec<f32> = halves
        .map(|&half| f16::from_le_bytes(half).to_f32())
        .collect();
    (0..count)
        .map(|index| {
            let (first, length) = (150 * index, 900 - 60 * index);
            frames[first * N_MELS..(first + length) * N_MELS].to_vec()
        })
        .collect()
}

/// Decodes windows together, and returns the likeliest tokens of each.
pub fn greedy(
    sessions: &mut Sessions,
    windows: &[&[f32]],
    prompt: &[i64],
    steps: usize,
) -> Vec<Vec<u32>> {
    let (mut states, _) = sessions.encoder.encode(windows).unwrap();
    let (mut step, mut cache) = sessions
        .decoder
        .first(
            prompt.repeat(windows.len()),
            &mut states,
            &[prompt.len() - 1],
        )
        .unwrap();
    let mut position = prompt.len() - 1;
    let (mut tokens, mut scratch) = (vec![Vec::new(); windows.len()], Vec::new());
    for _ in 0..steps {
        let mut next = Vec::new();
        for (row, tokens) in tokens.iter_mut().enumerate() {
            step.read(row, position, &mut scratch).unwrap();
            let token = crate::decode::sampler::argmax(&scratch);
            tokens.push(token);
            next.push(i64::from(token));
        }
        step = sessions.decoder.next(next, &mut cache).unwrap();
        position = 0;
    }
    tokens
}

/// A real model.
pub fn tiny() -> PathBuf {
    let folder = root().join(".tools/models/tiny.en");
    assert!(
        folder.is_dir(),
        "this test needs the model tiny.en in `{}`; run `make test-model`",
        folder.display()
    );
    folder
}

#[test]
fn a_windows_tokens_do_not_depend_on_its_batch() {
    let folder = tiny();
    for precision in [Precision::Fp32, Precision::Int8] {
        let (mut sessions, contents) = load_with(&folder, precision, None).unwrap();
        let windows = speech(8);
        let prompt = [
            contents.vocabulary.sot.into(),
            contents.vocabulary.timestamp_begin.into(),
        ];
        let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
        let alone: Vec<Vec<u32>> = windows
            .iter()
            .map(|window| greedy(&mut sessions, &[window], &prompt, 20).remove(0))
            .collect();
        let mut different = alone.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 8, "{alone:?}");
        for size in 2..=8 {
            let together = greedy(&mut sessions, &windows[..size], &prompt, 20);
            assert_eq!(together, alone[..size], "{precision:?}, a batch of {size}");
        }
    }
}

#[test]
fn removing_windows_does_not_change_the_others() {
    let (mut sessions, contents) = load_with(&tiny(), Precision::Int8, None).unwrap();
    let prompt = [
        contents.vocabulary.sot.into(),
        contents.vocabulary.timestamp_begin.into(),
    ];
    let windows = speech(4);
    let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
    let expected = greedy(&mut sessions, &windows, &prompt, 12);
    let (mut states, _) = sessions.encoder.encode(&windows).unwrap();
    let decoder = &mut sessions.decoder;
    let (_, mut cache) = decoder.first(prompt.repeat(4), &mut states, &[1]).unwrap();
    let mut scratch = Vec::new();
    let mut rows = vec![0, 1, 2, 3];
    for (step, left) in (0..11).map(|step| (step, if step < 2 { 4 } else { 2 })) {
        if left < rows.len() {
            decoder.select(&mut cache, &[1, 3]).unwrap();
            rows = vec![1, 3];
        }
        decoder.compact(&mut cache, &rows).unwrap();
        let tokens = rows.iter().map(|&row| expected[row][step].into());
        let logits = decoder.next(tokens.collect(), &mut cache).unwrap();
        for (place, &row) in rows.iter().enumerate() {
            logits.read(place, 0, &mut scratch).unwrap();
            let token = crate::decode::sampler::argmax(&scratch);
            assert_eq!(token, expected[row][step + 1], "step {step}, window {row}");
        }
    }
    drop(cache);
    assert_eq!(states.batch(), 2, "nothing has been removed");
    // The kept window is renumbered, and decoded again.
    decoder.keep(&mut states, &[3]).unwrap();
    let (logits, _) = decoder.first(prompt.to_vec(), &mut states, &[1]).unwrap();
    logits.read(0, 1, &mut scratch).unwrap();
    let token = crate::decode::sampler::argmax(&scratch);
    assert_eq!(token, expected[3][0]);
}

/// Returns the Kullback-Leibler divergence of `other`'s distribution from that of `logits`, in nats.
pub fn divergence(logits: &[f32], other: &[f32]) -> f64 {
    let logs = |logits: &[f32]| -> Vec<f64> {
        let powers = logits.iter().map(|&x| f64::from(x).exp());
        let whole = powers.sum::<f64>().ln();
        logits.iter().map(|&x| f64::from(x) - whole).collect()
    };
    let (logits, other) = (logs(logits), logs(other));
    let terms = logits.iter().zip(&other);
    terms.map(|(one, other)| one.exp() * (one - other)).sum()
}

#[test]
fn int8_hardly_changes_the_distribution_of_a_real_model() {
    let (mut exact, contents) = load_with(&tiny(), Precision::Fp32, None).unwrap();
    let (mut int8, _) = load_with(&tiny(), Precision::Int8, None).unwrap();
    let vocabulary = &contents.vocabulary;
    let prompt = [vocabulary.sot.into(), vocabulary.timestamp_begin.into()];
    let (mut sum, mut count) = (0.0, 0);
    for window in speech(8) {
        let text = greedy(&mut exact, &[&window], &prompt, 20).remove(0);
        let tokens: Vec<i64> = prompt
            .into_iter()
            .chain(text.into_iter().map(i64::from))
            .collect();
        let [exact, int8] = [&mut exact, &mut int8]
            .map(|sessions| logits(sessions, &window, &tokens, prompt.len()));
        let size = exact.len() / tokens.len();
        for (exact, int8) in exact.chunks(size).zip(int8.chunks(size)) {
            sum += divergence(exact, int8);
            count += 1;
        }
    }
    let mean = sum / f64::from(count);

    assert!((0.0..0.01).contains(&mean), "{mean} nats a token");
}

/// A copy of a small model, for tests that change its files.
fn copy(format: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(small().join(format)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

fn truncate(path: &Path, bytes: usize) {
    let whole = std::fs::read(path).unwrap();
    std::fs::write(path, &whole[..whole.len() - bytes]).unwrap();
}

#[test]
fn a_truncated_file_is_named() {
    for (format, file) in [
        ("ctranslate2/float16", "model.bin"),
        ("transformers/float16", "model.safetensors"),
        ("transformers/sharded", "model-00002-of-00003.safetensors"),
    ] {
        let folder = copy(format);
        for bytes in [1, 1000, 200_000] {
            let path = folder.path().join(file);
            if std::fs::metadata(&path).unwrap().len() > bytes as u64 {
                truncate(&path, bytes);
            }
            let text = error(folder.path());
            assert!(
                text.contains(file) && text.contains("truncated") && text.contains("download"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let folder = copy("transformers/float32");
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (missing, named) in [
        (
            "model.decoder.layers.1.fc2.weight",
            "decoder.layers.1.fc2.weight",
        ),
        ("model.encoder.conv1.weight", "encoder.conv1.weight"),
        ("model.decoder.layer_norm.bias", "decoder.layer_norm.bias"),
        (
            "model.decoder.layers.1.self_attn_layer_norm.weight",
            "decoder_layers",
        ),
    ] {
        let kept = tensors.iter().filter(|(name, _)| *name != missing);
        ::safetensors::serialize_to_file(kept, None, &path).unwrap();
        let text = error(folder.path());
        assert!(
            text.contains(named) && text.contains("incomplete"),
            "{text}"
        );
    }
}

#[test]
fn a_missing_shard_is_named() {
    let folder = copy("transformers/sharded");
    std::fs::remove_file(folder.path().join("model-00003-of-00003.safetensors")).unwrap();
    let text = error(folder.path());
    assert!(text.contains("model-00003-of-00003.safetensors"), "{text}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = copy("ctranslate2/float16");
    let path = folder.path().join("vocabulary.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut tokens: Vec<String> = serde_json::from_str(&text).unwrap();
    tokens.insert(256, "Ġof".into());
    std::fs::write(&path, serde_json::to_string(&tokens).unwrap()).unwrap();
    let text = error(folder.path());
    assert!(
        text.contains("tokenizer") && text.contains("another model"),
        "{text}"
    );
}

#[test]
fn the_error_for_a_folder_without_a_model_lists_the_formats() {
    let folder = tempfile::tempdir().unwrap();
    let text = error(folder.path());
    for file in ["model.bin", "model.safetensors", "encoder_model*.onnx"] {
        assert!(text.contains(file), "{text}");
    }
    std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    assert!(error(folder.path()).contains("ct2-transformers-converter"));
    assert!(error(&folder.path().join("none")).contains("no such folder"));
}

#[test]
fn another_kind_of_model_is_refused() {
    let folder = copy("ctranslate2/float16");
    let path = folder.path().join("model.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[6..13].copy_from_slice(b"Another");
    std::fs::write(&path, &bytes).unwrap();
    assert!(error(folder.path()).contains("not a Whisper"));
    bytes[0] = 99;
    std::fs::write(&path, &bytes).unwrap();
    assert!(error(folder.path()).contains("version 99"));

    let folder = copy("transformers/float16");
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("whisper", "wav2vec2")).unwrap();
    assert!(error(folder.path()).contains("another kind of model"));
}

/// Returns the attention of two heads after a prompt, `[heads, tokens, positions]`, and the number of positions.
fn attention(
    folder: &Path,
    precision: Precision,
    frames: &[f32],
    tokens: &[i64],
) -> (Vec<f32>, usize) {
    let contents = Contents::read(folder, precision).unwrap();
    let crate::model::Weights::Checkpoint(checkpoint) = &contents.weights else {
        panic!("expected a checkpoint");
    };
    let environment = environment::environment(&library(), built::register_operators).unwrap();
    let settings = settings::Settings::new(environment, 2, false);
    let heads = [(1, 0), (1, 1)];
    let dimensions = &contents.dimensions;
    let (mut encoder, mut decoder) =
        built::load(&settings, checkpoint, dimensions, precision, None, &heads).unwrap();
    let mut states = encoder.encode(&[frames]).unwrap();
    let attention = decoder.attention(tokens.to_vec(), &mut states);
    assert_eq!(attention.len(), 2 * tokens.len() * dimensions.positions);
    (attention, dimensions.positions)
}

#[test]
fn the_alignment_heads_attend_to_every_position() {
    let Expected { frames, tokens, .. } = expected();
    let small = small().join("ctranslate2/float32");
    let window = speech(1).remove(0);
    for (folder, precision, frames) in [
        (&small, Precision::Fp32, &frames),
        (&small, Precision::Int8, &frames),
        (&tiny(), Precision::Fp32, &window),
        (&tiny(), Precision::Int8, &window),
    ] {
        let (found, positions) = attention(folder, precision, frames, &tokens);
        for row in found.chunks(positions) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
        let (exact, _) = attention(folder, Precision::Fp32, frames, &tokens);
        let difference = largest_difference(&found, &exact);
        assert!(difference < 0.05, "{precision:?}: {difference}");
    }
}
