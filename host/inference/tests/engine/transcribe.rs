//! Transcription of frames with the test model.

use crate::support::*;
use inference::{Error, Options, Precision, Task, Timestamps};

#[tokio::test]
async fn greedy_decoding_matches_an_independent_implementation() {
    let engine = engine();
    for name in ["short", "other"] {
        let segments = transcribe(&engine, &frames(name), Options::default()).await;
        assert_eq!(text(&segments), expected(name, "greedy"));
    }
}

#[tokio::test]
async fn beam_search_matches_an_independent_implementation() {
    let engine = engine_fp32();
    for name in ["short", "other", "rare"] {
        let segments = transcribe(&engine, &frames(name), engine.default_options()).await;
        assert_eq!(text(&segments), expected(name, "beam"));
    }
    assert_ne!(expected("rare", "beam"), expected("rare", "greedy"));
}

#[tokio::test]
async fn beam_search_gives_the_same_text_with_a_split_and_a_merged_decoder() {
    let merged = engine();
    let split = linked_model(|file| !file.contains("merged"));
    let split = Measured::load(config(split.path())).unwrap();
    assert_eq!(split.model().files.len(), 3);
    for name in ["rare", "long"] {
        let mut texts = Vec::new();
        for engine in [&merged, &split] {
            let segments = transcribe(engine, &frames(name), engine.default_options()).await;
            texts.push(text(&segments));
        }
        assert_eq!(texts[0], texts[1]);
    }
}

#[tokio::test]
async fn beam_search_also_gives_timestamps() {
    let engine = engine();
    let options = Options {
        timestamps: Timestamps::Segment,
        ..engine.default_options()
    };
    assert_eq!(options.beam_size, 5);
    let segments = transcribe(&engine, &frames("long"), options).await;
    assert_eq!(words(&text(&segments)), words(&expected("long", "spoken")));
    assert!(segments.len() >= 5);
    assert!(segments.iter().all(|one| one.start < one.end));
    assert!(segments.windows(2).all(|two| two[0].end <= two[1].start));
}

#[tokio::test]
async fn every_kind_and_precision_of_the_decoder_gives_the_same_text() {
    let merged = engine();
    assert_eq!(merged.model().precision, Precision::Int8);
    let names = [
        "decoder_model_quantized",
        "decoder_with_past_model_quantized",
    ];
    let folder = linked_model(|file| {
        !file.contains("decoder") || names.iter().any(|name| file.starts_with(name))
    });
    let split = Measured::load(config(folder.path())).unwrap();
    assert_eq!(split.model().files.len(), 3);
    let full = engine_fp32();
    assert_eq!(
        full.model().files,
        ["encoder_model.onnx", "decoder_model_merged.onnx"]
    );
    for name in ["short", "other"] {
        let mut texts = Vec::new();
        for engine in [&merged, &split, &full] {
            let segments = transcribe(engine, &frames(name), Options::default()).await;
            texts.push(text(&segments));
        }
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0], texts[2]);
    }
}

/// A copy of the test model with its generation config changed by `change`.
fn changed_model(change: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
    let folder = linked_model(|file| file != "generation_config.json");
    let name = "generation_config.json";
    let text = std::fs::read_to_string(synthetic().join(name)).unwrap();
    let mut json = serde_json::from_str(&text).unwrap();
    change(&mut json);
    std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    folder
}

#[tokio::test]
async fn the_language_is_detected_once_if_the_model_has_several() {
    // `<|startoflm|>`, which the test model was not trained with, is used as a second language.
    let folder = changed_model(|json| json["lang_to_id"]["<|de|>"] = 1029.into());
    let engine = Measured::load(config(folder.path())).unwrap();
    assert_eq!(engine.model().languages, ["en", "de"]);
    let transcription = engine.start(Options::default()).unwrap();
    assert_eq!(transcription.info().language, None);
    feed(&transcription, &frames("other")).await;
    let segments = collect(&transcription).await.unwrap();
    let language = transcription.info().language;
    assert!(
        matches!(language.as_deref(), Some("en" | "de")),
        "{language:?}"
    );
    if language.as_deref() == Some("en") {
        assert_eq!(text(&segments), expected("other", "greedy"));
    }
    let english = Options {
        language: Some("en".into()),
        ..Options::default()
    };
    let segments = transcribe(&engine, &frames("other"), english).await;
    assert_eq!(text(&segments), expected("other", "greedy"));
}

#[tokio::test]
async fn a_model_without_language_tokens_is_english() {
    let folder = changed_model(|json| {
        for field in ["lang_to_id", "task_to_id", "is_multilingual"] {
            json.as_object_mut().unwrap().remove(field);
        }
    });
    let engine = Measured::load(config(folder.path())).unwrap();
    assert_eq!(engine.model().languages, ["en"]);
    assert!(!engine.model().translates);
    let transcription = engine.start(Options::default()).unwrap();
    feed(&transcription, &frames("short")).await;
    // The test model was not trained without a language token, so its text does not matter here.
    collect(&transcription).await.unwrap();
    assert_eq!(transcription.info().language.as_deref(), Some("en"));
    assert_eq!(transcription.info().windows, 1);
}

/// The test model with only the files for which `keep` returns true.
fn linked_model(keep: impl Fn(&str) -> bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let link = |from: &std::path::Path, to: &std::path::Path| {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path().canonicalize().unwrap();
            let name = path.file_name().unwrap().to_owned();
            if path.is_file() && keep(&name.to_string_lossy()) {
                std::os::unix::fs::symlink(&path, to.join(name)).unwrap();
            }
        }
    };
    link(&synthetic(), folder.path());
    std::fs::create_dir(folder.path().join("onnx")).unwrap();
    link(&synthetic().join("onnx"), &folder.path().join("onnx"));
    folder
}

#[tokio::test]
async fn a_long_recording_is_cut_at_pauses_and_nothing_is_lost() {
    let engine = engine();
    let frames = frames("long");
    let segments = transcribe(&engine, &frames, Options::default()).await;
    let spoken = expected("long", "spoken");
    let transcript = text(&segments);
    let errors = word_errors(&spoken, &transcript);
    assert!(
        errors * 20 <= words(&spoken).len(),
        "{errors} errors in: {transcript}"
    );
}

#[tokio::test]
async fn the_text_does_not_depend_on_whether_times_are_requested() {
    let engine = engine();
    for name in ["short", "long"] {
        let segment = Options {
            timestamps: Timestamps::Segment,
            ..Options::default()
        };
        let with = transcribe(&engine, &frames(name), segment).await;
        let without = transcribe(&engine, &frames(name), Options::default()).await;
        assert_eq!(with, without);
    }
}

/// Options with which every window counts as silence.
fn all_silent() -> Options {
    Options {
        no_speech_threshold: Some(-1.0),
        logprob_threshold: Some(1.0),
        ..Options::default()
    }
}

#[tokio::test]
async fn steady_noise_is_not_cut_into_shorter_windows() {
    let engine = engine();
    // 20 s, each value within 4 dB of the others; the test model's window is 10 s.
    let mut state = 1u32;
    let noise: Vec<f32> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 0.4 - 1.0
    })
    .take(80 * 2000)
    .collect();
    let transcription = engine.start(all_silent()).unwrap();
    feed(&transcription, &noise).await;
    assert_eq!(collect(&transcription).await.unwrap(), []);
    assert_eq!(transcription.info().windows, 2);
}

#[tokio::test]
async fn a_clip_shorter_than_any_word_is_not_decoded() {
    let engine = engine();
    for count in [1, 2, 5, 9] {
        let clip = &frames("short")[80 * 50..80 * (50 + count)];
        assert_eq!(transcribe(&engine, clip, Options::default()).await, []);
    }
    assert_eq!(engine.metrics().windows, 0);
}

#[tokio::test]
async fn a_window_without_speech_does_not_determine_the_language() {
    let folder = changed_model(|json| json["lang_to_id"]["<|de|>"] = 1029.into());
    let engine = Measured::load(config(folder.path())).unwrap();
    let transcription = engine.start(all_silent()).unwrap();
    feed(&transcription, &frames("other")).await;
    assert_eq!(collect(&transcription).await.unwrap(), []);
    let info = transcription.info();
    assert_eq!((info.language, info.windows), (None, 1));
}

#[tokio::test]
async fn a_language_may_be_given_by_code_or_name_in_any_case() {
    let engine = engine();
    for language in ["en", "EN", "en-US", "en_GB", "English", "auto", ""] {
        let options = Options {
            language: Some(language.into()),
            ..Options::default()
        };
        let transcription = engine.start(options).unwrap();
        assert_eq!(transcription.info().language.as_deref(), Some("en"));
    }
}

#[tokio::test]
async fn segments_follow_the_models_timestamps_and_are_in_order() {
    let engine = engine();
    let frames = frames("long");
    let options = Options {
        timestamps: Timestamps::Segment,
        ..Options::default()
    };
    let segments = transcribe(&engine, &frames, options).await;
    assert!(!segments.is_empty());
    let mut before = 0.0;
    for segment in &segments {
        assert!(
            segment.start >= before && segment.end >= segment.start,
            "{segments:?}"
        );
        assert!(segment.end <= frames.len() as f64 / 8000.0);
        assert!(!segment.text.is_empty() && segment.text == segment.text.trim());
        before = segment.start;
    }
}

#[tokio::test]
async fn the_same_recording_gives_the_same_text_at_every_temperature() {
    let engine = engine();
    let options = Options {
        temperatures: vec![0.8],
        ..Options::default()
    };
    let first = transcribe(&engine, &frames("short"), options.clone()).await;
    let second = transcribe(&engine, &frames("short"), options).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn silence_and_empty_recordings_give_no_segments() {
    let engine = engine();
    for frames in [vec![], vec![-10.0; 80 * 2500], vec![-9.3; 80 * 50]] {
        for timestamps in [Timestamps::None, Timestamps::Segment] {
            let options = Options {
                timestamps,
                ..Options::default()
            };
            assert_eq!(transcribe(&engine, &frames, options).await, []);
        }
    }
    assert_eq!(engine.metrics().windows, 0);
}

#[tokio::test]
async fn silence_after_speech_adds_nothing() {
    let engine = engine();
    let mut recording = frames("short");
    recording.extend(vec![-6.5; 80 * 1500]);
    let segments = transcribe(&engine, &recording, Options::default()).await;
    assert_eq!(text(&segments), expected("short", "greedy"));
}

#[tokio::test]
async fn a_failed_window_is_retried_at_the_next_temperature() {
    let engine = engine();
    let options = Options {
        // No text is this likely.
        logprob_threshold: Some(1.0),
        no_speech_threshold: None,
        temperatures: vec![0.0, 0.4],
        ..Options::default()
    };
    let segments = transcribe(&engine, &frames("short"), options).await;
    assert_eq!(segments.len(), 1);
    let once = transcribe(&engine, &frames("short"), Options::default()).await;
    // The likelier of the two attempts is kept.
    assert!(segments[0].avg_logprob >= once[0].avg_logprob);
    let metrics = engine.metrics();
    assert_eq!((metrics.windows, metrics.batches), (2, 2));
}

#[tokio::test]
async fn text_that_is_repetitive_at_every_temperature_is_kept() {
    let engine = engine();
    let expected = transcribe(&engine, &frames("short"), Options::default()).await;
    let repetitive = Options {
        temperatures: vec![0.0],
        compression_ratio_threshold: Some(0.01),
        ..Options::default()
    };
    assert_eq!(
        transcribe(&engine, &frames("short"), repetitive).await,
        expected
    );
}

#[tokio::test]
async fn windows_are_prompted_with_the_prompt_and_the_previous_text() {
    let engine = engine();
    let options = Options {
        prompt: Some("The harbor. ".repeat(200)),
        condition_on_previous_text: true,
        compression_ratio_threshold: None,
        ..Options::default()
    };
    let transcription = engine.start(options).unwrap();
    feed(&transcription, &frames("long")).await;
    collect(&transcription).await.unwrap();
    assert!(transcription.info().windows >= 2);
}

#[tokio::test]
async fn info_returns_the_current_state() {
    let engine = engine();
    let transcription = engine.start(Options::default()).unwrap();
    // The test model has only one language, so none is detected.
    assert_eq!(transcription.info().language.as_deref(), Some("en"));
    feed(&transcription, &frames("short")).await;
    collect(&transcription).await.unwrap();
    let info = transcription.info();
    assert_eq!(info.duration, frames("short").len() as f64 / 8000.0);
    assert_eq!(info.windows, 1);
}

#[tokio::test]
async fn invalid_and_unsupported_options_are_refused() {
    let engine = engine();
    let refuse = |options: Options| match engine.start(options) {
        Ok(_) => panic!("the options were accepted"),
        Err(error) => error,
    };
    let default = Options::default;
    let error = refuse(Options {
        beam_size: 0,
        ..default()
    });
    assert!(matches!(error, Error::InvalidOption(_)));
    for beam_size in [9, u32::MAX] {
        let error = refuse(Options {
            beam_size,
            ..default()
        });
        assert!(matches!(&error, Error::UnsupportedOption(text) if text.contains("the 8 rows")));
    }
    let error = refuse(Options {
        timestamps: Timestamps::Word,
        ..default()
    });
    assert!(matches!(&error, Error::UnsupportedOption(text) if text.contains("cross-attention")));
    let error = refuse(Options {
        task: Task::Translate,
        ..default()
    });
    assert!(matches!(error, Error::UnsupportedOption(_)));
    let error = refuse(Options {
        language: Some("xx".into()),
        ..default()
    });
    assert!(matches!(&error, Error::UnsupportedLanguage(text) if text.contains("en")));
    for temperatures in [vec![], vec![-0.1], vec![1.5], vec![f32::NAN]] {
        let error = refuse(Options {
            temperatures,
            ..default()
        });
        assert!(matches!(error, Error::InvalidOption(_)));
    }
    assert_eq!(engine.metrics().transcriptions, 0);
}

#[tokio::test]
async fn frames_that_are_not_whole_rows_of_finite_numbers_are_refused() {
    let engine = engine();
    let transcription = engine.start(Options::default()).unwrap();
    for bad in [vec![0.0; 79], vec![f32::NAN; 80], vec![f32::INFINITY; 80]] {
        let error = transcription.push(bad).await.unwrap_err();
        assert!(matches!(error, Error::InvalidFrames(_)));
    }
    // The refused frames are not counted.
    assert_eq!(transcription.info().duration, 0.0);
}

#[tokio::test]
async fn calls_out_of_order_are_refused() {
    let engine = engine();
    let transcription = engine.start(Options::default()).unwrap();
    transcription.push(frames("short")).await.unwrap();
    assert!(matches!(
        transcription.next().await,
        Err(Error::InvalidState(_))
    ));
    transcription.finish().unwrap();
    assert!(matches!(
        transcription.finish(),
        Err(Error::InvalidState(_))
    ));
    assert!(matches!(
        transcription.push(vec![]).await,
        Err(Error::InvalidState(_))
    ));
    assert_eq!(collect(&transcription).await.unwrap().len(), 1);
    assert_eq!(transcription.next().await, Ok(None));
}
