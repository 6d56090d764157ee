//! Many transcriptions at once: batches, cancellation, overload, fairness, shutdown.

use std::time::Duration;

use crate::support::*;
use inference::{Config, Error, Options, Precision};

/// Waits until `condition` is true.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition did not become true within 10 s");
}

fn repeat(name: &str, times: usize) -> Vec<f32> {
    frames(name).repeat(times)
}

#[tokio::test]
async fn windows_are_batched_and_have_the_same_texts_as_alone() {
    let engine = engine_fp32();
    let names = ["short", "other", "short", "other", "short"];
    // One window first, so that the others wait in the queue together.
    let first = engine.start(Options::default()).unwrap();
    feed(&first, &frames("other")).await;
    let mut waiting = Vec::new();
    for name in names {
        let transcription = engine.start(Options::default()).unwrap();
        feed(&transcription, &frames(name)).await;
        waiting.push((name, transcription));
    }
    for (name, transcription) in &waiting {
        let segments = collect(transcription).await.unwrap();
        assert_eq!(text(&segments), expected(name, "greedy"));
    }
    let metrics = engine.metrics();
    assert_eq!(metrics.windows, 6);
    assert!(metrics.batches < 6, "{metrics:?}");
    assert!(metrics.encoder_seconds > 0.0 && metrics.decoder_seconds > 0.0 && metrics.tokens > 0);
}

#[tokio::test]
async fn windows_of_different_beam_sizes_share_a_batch_and_keep_their_texts() {
    let engine = Measured::load(Config {
        precision: Precision::Fp32,
        max_batch: 16,
        ..config(synthetic())
    })
    .unwrap();
    let start = |beam_size| {
        let options = Options::default();
        engine.start(Options {
            beam_size,
            ..options
        })
    };
    // One window first, so that the others wait in the queue together.
    let first = start(1).unwrap();
    feed(&first, &frames("other")).await;
    let mut waiting = Vec::new();
    for (name, beam_size) in [
        ("rare", 5),
        ("other", 1),
        ("short", 5),
        ("short", 1),
        ("other", 3),
    ] {
        let transcription = start(beam_size).unwrap();
        feed(&transcription, &frames(name)).await;
        waiting.push((name, beam_size, transcription));
    }
    collect(&first).await.unwrap();
    for (name, beam_size, transcription) in &waiting {
        let segments = collect(transcription).await.unwrap();
        let how = if *beam_size == 1 { "greedy" } else { "beam" };
        assert_eq!(text(&segments), expected(name, how), "{name}, {beam_size}");
    }
    // One batch for the first, and one for the other five with their 15 rows, unless they were queued too late.
    assert!(engine.metrics().batches < 6, "{:?}", engine.metrics());
}

#[tokio::test]
async fn integer_files_are_decoded_one_window_at_a_time() {
    let engine = engine();
    let transcriptions: Vec<_> = (0..4)
        .map(|_| engine.start(Options::default()).unwrap())
        .collect();
    for transcription in &transcriptions {
        feed(transcription, &frames("short")).await;
    }
    for transcription in &transcriptions {
        collect(transcription).await.unwrap();
    }
    assert_eq!(engine.metrics().batches, 4);
}

#[tokio::test]
async fn dropping_a_transcription_releases_its_permit_and_its_window() {
    let engine = engine();
    let dropped: Vec<_> = (0..5)
        .map(|_| engine.start(Options::default()).unwrap())
        .collect();
    for transcription in &dropped {
        feed(transcription, &repeat("long", 3)).await;
    }
    assert_eq!(engine.metrics().transcriptions, 5);
    drop(dropped);
    until(|| engine.metrics().transcriptions == 0 && engine.metrics().queued_windows == 0).await;
    let segments = transcribe(&engine, &frames("short"), Options::default()).await;
    assert_eq!(text(&segments), expected("short", "greedy"));
    // Of at least 15 windows, only those already started were decoded.
    assert!(engine.metrics().windows < 10, "{:?}", engine.metrics());
}

#[tokio::test]
async fn one_transcription_too_many_is_refused_until_another_is_dropped() {
    let engine = Measured::load(Config {
        max_queue: 2,
        ..config(synthetic())
    })
    .unwrap();
    let one = engine.start(Options::default()).unwrap();
    let _two = engine.start(Options::default()).unwrap();
    match engine.start(Options::default()) {
        Err(Error::Overloaded { retry_after }) => assert!(retry_after >= 1),
        other => panic!("{:?}", other.err()),
    }
    drop(one);
    assert!(engine.start(Options::default()).is_ok());
}

#[tokio::test]
async fn a_short_recording_does_not_wait_for_a_long_one() {
    // The int8 files are decoded one window at a time, so only the order counts.
    let engine = engine();
    let long = engine.start(Options::default()).unwrap();
    feed(&long, &repeat("long", 8)).await;
    let short = engine.start(Options::default()).unwrap();
    feed(&short, &frames("short")).await;
    collect(&short).await.unwrap();
    let windows = long.info().windows;
    assert!(
        windows <= 5,
        "{windows} windows of the long recording were decoded before the short one's only window"
    );
    collect(&long).await.unwrap();
    assert!(long.info().windows > 15);
}

#[tokio::test]
async fn push_waits_while_the_buffer_is_full() {
    let engine = Measured::load(Config {
        max_buffered_seconds: 20.0,
        ..config(synthetic())
    })
    .unwrap();
    let transcription = engine.start(Options::default()).unwrap();
    let recording = repeat("long", 5);
    let mut windows = 0;
    for block in recording.chunks(80 * 500) {
        transcription.push(block.to_vec()).await.unwrap();
        windows = transcription.info().windows;
    }
    // 100 s were pushed and at most 20 s are buffered, so push has waited for windows to be decoded.
    assert!(windows >= 5, "{windows}");
    let too_much = transcription.push(vec![0.0; 80 * 1001]).await;
    assert!(
        matches!(too_much, Err(Error::InvalidFrames(_))),
        "{too_much:?}"
    );
    transcription.finish().unwrap();
    assert!(collect(&transcription).await.unwrap().len() >= 10);
}

#[tokio::test]
async fn segments_are_returned_while_frames_are_still_pushed() {
    let engine = engine();
    let transcription = engine.start(Options::default()).unwrap();
    transcription.push(frames("long")).await.unwrap();
    let first = transcription.next().await.unwrap().unwrap();
    assert!(
        first.text.starts_with("There was a potion"),
        "{}",
        first.text
    );
    transcription.finish().unwrap();
    assert!(!collect(&transcription).await.unwrap().is_empty());
}

#[tokio::test]
async fn transcriptions_of_a_dropped_engine_fail() {
    let engine = engine();
    let transcription = engine.start(Options::default()).unwrap();
    feed(&transcription, &repeat("long", 4)).await;
    drop(engine);
    let ended = tokio::time::timeout(Duration::from_secs(10), collect(&transcription)).await;
    assert!(matches!(ended, Ok(Err(Error::Internal(_)))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_and_transcriptions_can_be_used_from_any_task() {
    let engine = std::sync::Arc::new(engine());
    let tasks: Vec<_> = ["short", "other", "short"]
        .into_iter()
        .map(|name| {
            let engine = std::sync::Arc::clone(&engine);
            tokio::spawn(async move {
                let segments = transcribe(&engine, &frames(name), Options::default()).await;
                assert_eq!(text(&segments), expected(name, "greedy"));
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
