//! Errors about invalid or incomplete model folders name the file and the field.

use std::path::Path;

use crate::support::*;
use inference::{Config, Device, Engine, Options, Precision};
use serde_json::Value;

/// A copy of the test model, with links to its ONNX files.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
    ] {
        std::fs::copy(synthetic().join(name), folder.path().join(name)).unwrap();
    }
    let onnx = synthetic().join("onnx").canonicalize().unwrap();
    std::os::unix::fs::symlink(onnx, folder.path().join("onnx")).unwrap();
    folder
}

/// Changes one field of a JSON file.
fn set(folder: &Path, file: &str, field: &str, value: Value) {
    let path = folder.join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json[field] = value;
    std::fs::write(&path, json.to_string()).unwrap();
}

fn error(config: Config) -> String {
    match Engine::load(config) {
        Ok(_) => panic!("the model was loaded"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_copy_of_the_model_loads() {
    let folder = copy();
    let engine = Engine::load(config(folder.path())).unwrap();
    let model = engine.model();
    assert_eq!(
        (model.n_mels, model.window, model.frames_per_second),
        (80, 10.0, 100.0)
    );
    assert_eq!(
        (model.languages.as_slice(), model.device),
        (&["en".to_owned()][..], "cpu")
    );
}

#[test]
fn the_default_beam_size_is_the_models_limited_by_the_batch_size() {
    for (num_beams, beam_size) in [(Value::Null, 5), (3.into(), 3), (20.into(), 8)] {
        let folder = copy();
        set(
            folder.path(),
            "generation_config.json",
            "num_beams",
            num_beams,
        );
        let engine = Engine::load(config(folder.path())).unwrap();
        assert_eq!(engine.default_options().beam_size, beam_size);
    }
}

#[test]
fn the_model_may_disable_conditioning_on_previous_text() {
    for (condition, expected) in [(Value::Null, true), (false.into(), false)] {
        let folder = copy();
        set(
            folder.path(),
            "generation_config.json",
            "condition_on_prev_tokens",
            condition,
        );
        let engine = Engine::load(config(folder.path())).unwrap();
        let options = engine.default_options();
        assert_eq!(options.condition_on_previous_text, expected);
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in [
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
    ] {
        let folder = copy();
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let text = error(config(folder.path()));
        assert!(
            text.contains(&format!("`{name}`")) && text.contains("copy it there"),
            "{text}"
        );
    }
    let folder = copy();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let text = error(config(folder.path()));
    assert!(
        text.contains("`tokenizer.json`") && text.contains("`vocab.json`"),
        "{text}"
    );
    let folder = copy();
    std::fs::remove_file(folder.path().join("onnx")).unwrap();
    let text = error(config(folder.path()));
    assert!(text.contains("encoder_model*.onnx"), "{text}");
}

#[test]
fn settings_that_contradict_the_model_are_named() {
    let vocabulary = 1534;
    for (file, field, value, words) in [
        (
            "generation_config.json",
            "is_multilingual",
            "yes".into(),
            "true or false",
        ),
        (
            "generation_config.json",
            "no_timestamps_token_id",
            (vocabulary - 1).into(),
            "timestamps follow",
        ),
        (
            "preprocessor_config.json",
            "hop_length",
            320.into(),
            "100 frames per second",
        ),
        (
            "preprocessor_config.json",
            "sampling_rate",
            u64::MAX.into(),
            "100 frames per second",
        ),
    ] {
        let folder = copy();
        set(folder.path(), file, field, value);
        let text = error(config(folder.path()));
        let field = if field == "sampling_rate" {
            "hop_length"
        } else {
            field
        };
        assert!(
            text.contains(&format!("`{field}`")) && text.contains(words),
            "{text}"
        );
    }
}

/// As in fine-tuned models whose settings lack the lists.
#[test]
fn languages_and_tasks_missing_in_the_settings_are_read_from_the_tokenizer() {
    let engine = Engine::load(config(synthetic())).unwrap();
    let folder = copy();
    for field in ["lang_to_id", "task_to_id"] {
        set(folder.path(), "generation_config.json", field, Value::Null);
    }
    let without = Engine::load(config(folder.path())).unwrap();
    assert_eq!(without.model().languages, engine.model().languages);
    assert_eq!(without.model().translates, engine.model().translates);
    assert!(without.start(Options::default()).is_ok());
}

#[test]
fn the_error_for_a_missing_precision_names_its_files() {
    let text = error(Config {
        precision: Precision::Fp16,
        ..config(synthetic())
    });
    assert!(text.contains("encoder_model_fp16.onnx"), "{text}");
}

#[test]
fn an_invalid_field_is_named_with_its_file_and_what_was_expected() {
    let cases = [
        ("config.json", "d_model", Value::Null, "is missing"),
        (
            "config.json",
            "d_model",
            "wide".into(),
            "expected a whole number",
        ),
        (
            "config.json",
            "decoder_attention_heads",
            5.into(),
            "does not divide",
        ),
        ("config.json", "decoder_layers", 0.into(), "is 0"),
        (
            "preprocessor_config.json",
            "nb_max_frames",
            3000.into(),
            "max_source_positions",
        ),
        (
            "generation_config.json",
            "lang_to_id",
            serde_json::json!({"en": 1}),
            "<|en|>",
        ),
        (
            "generation_config.json",
            "suppress_tokens",
            "all".into(),
            "list of token ids",
        ),
        (
            "generation_config.json",
            "num_beams",
            0.into(),
            "at least 1",
        ),
        (
            "generation_config.json",
            "eos_token_id",
            99999.into(),
            "vocab_size",
        ),
    ];
    for (file, field, value, problem) in cases {
        let folder = copy();
        set(folder.path(), file, field, value);
        let text = error(config(folder.path()));
        for part in [file, field, problem] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}

#[test]
fn a_mel_count_that_the_encoder_does_not_take_is_named() {
    let folder = copy();
    set(
        folder.path(),
        "preprocessor_config.json",
        "feature_size",
        128.into(),
    );
    let text = error(config(folder.path()));
    assert!(
        text.contains("feature_size") && text.contains("num_mel_bins"),
        "{text}"
    );
    set(folder.path(), "config.json", "num_mel_bins", 128.into());
    let text = error(config(folder.path()));
    assert!(
        text.contains("input_features") && text.contains("128"),
        "{text}"
    );
}

#[test]
fn sizes_that_the_decoder_does_not_have_are_named() {
    for (field, value, tensor) in [
        ("vocab_size", 51865, "logits"),
        ("decoder_layers", 3, "past_key_values"),
        ("decoder_attention_heads", 6, "past_key_values"),
    ] {
        let folder = copy();
        set(folder.path(), "config.json", field, value.into());
        let text = error(config(folder.path()));
        assert!(
            text.contains(tensor) && text.contains("decoder_model_merged"),
            "{text}"
        );
    }
}

#[test]
fn a_file_that_is_not_a_model_is_named() {
    let folder = copy();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let text = error(config(folder.path()));
    assert!(
        text.contains("`tokenizer.json`") && text.contains("`vocab.json`"),
        "{text}"
    );
    let folder = copy();
    std::fs::remove_file(folder.path().join("onnx")).unwrap();
    for name in ["encoder_model.onnx", "decoder_model_merged.onnx"] {
        std::fs::write(folder.path().join(name), "not a model").unwrap();
    }
    let text = error(config(folder.path()));
    assert!(
        text.contains("encoder_model.onnx") && text.contains("ONNX Runtime"),
        "{text}"
    );
}

#[test]
fn a_missing_library_is_named() {
    let text = error(Config {
        library: "no/such/library.so".into(),
        ..config(synthetic())
    });
    assert!(
        text.contains("no/such/library.so") && text.contains("libonnxruntime.so"),
        "{text}"
    );
}

#[test]
fn settings_out_of_range_are_named() {
    for (name, config) in [
        (
            "threads",
            Config {
                threads: 0,
                ..config(synthetic())
            },
        ),
        (
            "max_batch",
            Config {
                max_batch: 0,
                ..config(synthetic())
            },
        ),
        (
            "max_queue",
            Config {
                max_queue: 0,
                ..config(synthetic())
            },
        ),
        (
            "max_buffered_seconds",
            Config {
                max_buffered_seconds: f64::NAN,
                ..config(synthetic())
            },
        ),
    ] {
        let text = error(config);
        assert!(text.contains(name), "{text}");
    }
}

/// The library of the regular wheel has no CUDA; with a CUDA build, this test checks nothing.
#[test]
fn without_cuda_auto_uses_the_cpu_and_cuda_is_refused() {
    let auto = Engine::load(Config {
        device: Device::Auto,
        ..config(synthetic())
    })
    .unwrap();
    if auto.model().device == "cuda" {
        return;
    }
    let text = error(Config {
        device: Device::Cuda,
        ..config(synthetic())
    });
    assert!(text.contains("cuda") && text.contains("`cpu`"), "{text}");
}
