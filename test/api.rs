//! `/analyze` and `/stats`, as called by users.

mod common;

use common::{Host, RECORDINGS, recording, said_in, wav, word_errors, words};

#[tokio::test]
async fn model_initialization() {
    let host = Host::start();
    assert_eq!(host.get("/readyz").await.status, 200);
    assert_eq!(
        host.get("/healthz").await.json(),
        serde_json::json!({"status": "ok"})
    );
    for expected in [
        "/analyze",
        "/stats",
        "test/models/synthetic",
        "device  cpu",
        "SQLite",
        &host.url,
    ] {
        assert!(
            host.start_up.contains(expected),
            "no {expected} in:\n{}",
            host.start_up
        );
    }
}

#[tokio::test]
async fn analyze_with_a_short_audio() {
    let host = Host::start();
    let answer = host.analyze("home.m4a", recording("home.m4a"), &[]).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let json = answer.json();
    assert_eq!(
        json.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["transcription"]
    );
    assert_eq!(words(&answer.transcription()), said_in("home.m4a"));
}

/// What makes the log show spans.
const SPANS: [&str; 4] = ["--log-format", "text", "--log", "otel::tracing=trace"];

#[tokio::test]
async fn each_part_of_a_request_has_its_span() {
    let host = Host::with(common::state_dir(), &SPANS);
    host.analyze("home.m4a", recording("home.m4a"), &[]).await;
    host.get("/stats").await;
    let request = "http.server.request{otel.kind=\"server\" http.request.method=\"POST\" url.path=\"/analyze\"";
    let status = "http.response.status_code=200";
    let invocation = ":invocation{faas.invoked_name=\"analyze\"";
    let close = "}: close time.busy=";
    for parts in [
        &[request, status, close][..],
        &[request, invocation, close],
        &[request, invocation, "}:window{index=0", close],
        &[request, invocation, "}:window{index=0", "}:queue: close"],
        &[
            request,
            invocation,
            "}:window{index=0",
            "}:encoder{batch.windows=1",
            close,
        ],
        &[
            request,
            invocation,
            "}:window{index=0",
            "}:decoder{batch.windows=1 round=0",
            close,
        ],
        &[
            request,
            invocation,
            "}:component{otel.name=\"decode\" busy_ns=",
            close,
        ],
        &[
            request,
            invocation,
            "}:component{otel.name=\"log-mel\" busy_ns=",
            close,
        ],
        &[
            request,
            invocation,
            "}:timeseries{",
            "db.operation.name=\"write\"",
            close,
        ],
        &[
            "url.path=\"/stats\"",
            ":invocation{faas.invoked_name=\"stats\"",
            "}:timeseries{",
            "\"aggregate\"",
            close,
        ],
    ] {
        host.wait_for_text(parts).await;
    }
}

#[tokio::test]
async fn stats_has_its_fields() {
    let host = Host::start();
    let nothing = r#"{"total_calls":0,"median_latency":0.0,"average_audio_length":"0.0s"}"#;
    assert_eq!(host.get("/stats").await.text, nothing);
    assert_eq!(host.post("/stats", "").await.text, nothing);
    host.analyze("garden.flac", recording("garden.flac"), &[])
        .await;
    let stats = host.get("/stats").await;
    assert_eq!(stats.headers["content-type"], "application/json");
    let json = stats.json();
    assert_eq!(json.as_object().unwrap().len(), 3);
    assert_eq!(json["total_calls"], 1);
    assert!(json["median_latency"].is_f64(), "{json}");
    assert!(
        json["average_audio_length"]
            .as_str()
            .unwrap()
            .ends_with('s'),
        "{json}"
    );
}

#[tokio::test]
async fn stats_update_after_a_call() {
    let host = Host::start();
    // Recordings of exactly 2 s and 3 s, so the mean is known.
    for (seconds, mean) in [(2.0, "2.0s"), (3.0, "2.5s")] {
        assert_eq!(
            host.analyze("hum.wav", wav(seconds, |_| 0), &[])
                .await
                .status,
            200
        );
        assert_eq!(
            host.get("/stats").await.json()["average_audio_length"],
            mean
        );
    }
    assert_eq!(host.get("/stats").await.json()["total_calls"], 2);
}

#[tokio::test]
async fn the_five_recordings_are_transcribed_correctly() {
    let host = Host::start();
    let mut exact = 0;
    for name in RECORDINGS {
        let heard = words(
            &host
                .analyze(name, recording(name), &[])
                .await
                .transcription(),
        );
        let said = said_in(name);
        let errors = word_errors(&said, &heard);
        assert!(
            errors <= 1,
            "{name}: {errors} words wrong\nsaid  {said:?}\nheard {heard:?}"
        );
        exact += usize::from(errors == 0);
    }
    assert!(exact >= 4, "only {exact} of the five are exactly right");
}

#[tokio::test]
async fn failed_calls_are_recorded_separately() {
    let host = Host::start();
    assert_eq!(
        host.analyze("notes.txt", b"these are notes".to_vec(), &[])
            .await
            .error()
            .0,
        415
    );
    assert_eq!(host.get("/stats").await.json()["total_calls"], 0);
    assert_eq!(
        host.get("/stats?outcome=failed").await.json()["total_calls"],
        1
    );
}

#[tokio::test]
async fn statistics_are_selected_by_time_model_and_language_with_percentiles() {
    let host = Host::start();
    for _ in 0..3 {
        host.analyze("a.flac", recording("garden.flac"), &[("language", "en")])
            .await
            .transcription();
    }
    let stats = async |query: &str| host.get(&format!("/stats?{query}")).await.json();
    for (query, calls) in [
        ("since=1h", 3),
        ("since=0s", 0),
        ("model=whisper&language=en&outcome=ok", 3),
        ("model=other", 0),
        ("language=xx", 0),
        ("outcome=failed&since=7d", 0),
    ] {
        assert_eq!(stats(query).await["total_calls"], calls, "{query}");
    }
    let all = stats("p=0&p=50&p=100").await;
    let number = |name: &str| all[name].as_f64().unwrap();
    assert_eq!(number("p50_latency"), number("median_latency"));
    assert!(number("p0_latency") <= number("p50_latency"));
    assert!(number("p50_latency") <= number("p100_latency"));
    assert_eq!(all.as_object().unwrap().len(), 6);
}

#[tokio::test]
async fn the_audio_may_be_the_raw_body() {
    let host = Host::start();
    let bytes = recording("numbers.wav");
    let in_a_form = host
        .analyze("numbers.wav", bytes.clone(), &[])
        .await
        .transcription();
    assert_eq!(words(&in_a_form), said_in("numbers.wav"));
    assert_eq!(
        host.post("/analyze", bytes.clone()).await.transcription(),
        in_a_form
    );
    let chunked = futures::stream::iter(
        bytes
            .chunks(1000)
            .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        host.post("/analyze", reqwest::Body::wrap_stream(chunked))
            .await
            .transcription(),
        in_a_form
    );
}

#[tokio::test]
async fn segments_have_timestamps_when_requested() {
    let host = Host::start();
    let bytes = recording("journey.ogg");
    let in_a_field = host
        .analyze("journey.ogg", bytes.clone(), &[("timestamps", "segment")])
        .await;
    let in_the_query = host.post("/analyze?timestamps=segment", bytes).await;
    assert_eq!(in_a_field.json(), in_the_query.json());
    let json = in_a_field.json();
    let segments = json["segments"].as_array().unwrap();
    // Eleven sentences with pauses between them, in 35 seconds.
    assert!(segments.len() >= 8, "{json}");
    let mut last = 0.0;
    let mut text = String::new();
    for segment in segments {
        let (start, end) = (
            segment["start"].as_f64().unwrap(),
            segment["end"].as_f64().unwrap(),
        );
        assert!(last <= start && start < end, "{json}");
        last = end;
        text = format!("{text} {}", segment["text"].as_str().unwrap());
    }
    assert!((30.0..36.0).contains(&last), "{json}");
    assert_eq!(text.trim(), json["transcription"]);
}

#[tokio::test]
async fn silence_is_the_empty_string() {
    let host = Host::start();
    for seconds in [0.5, 5.0, 25.0] {
        assert_eq!(
            host.analyze("silence.wav", wav(seconds, |_| 0), &[])
                .await
                .transcription(),
            "",
            "{seconds} s"
        );
    }
}

#[tokio::test]
async fn the_beam_size_is_limited_to_the_rows_of_a_batch() {
    let host = Host::with(common::state_dir(), &["--max-batch", "4"]);
    let narrowed = "the model's beam size is larger than the maximum batch; it is reduced";
    host.wait_for_log(|line| line["message"] == narrowed).await;
    let analyze = async |fields: &[(&str, &str)]| {
        host.analyze("home.m4a", recording("home.m4a"), fields)
            .await
    };
    for fields in [&[][..], &[("beam_size", "1")], &[("beam_size", "4")]] {
        let heard = analyze(fields).await.transcription();
        assert_eq!(words(&heard), said_in("home.m4a"));
    }
    let refused = analyze(&[("beam_size", "5")]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.message().contains("the 4 rows"), "{}", refused.text);
    let refused = analyze(&[("beam_size", "0")]).await;
    assert_eq!(refused.error(), (400, "bad_request".into()));
}

#[tokio::test]
async fn each_kind_of_bad_request_has_its_own_error() {
    let host = Host::start();
    let good = || recording("home.m4a");
    let analyze = async |name: &str, bytes: Vec<u8>, fields: &[(&str, &str)]| {
        host.analyze(name, bytes, fields).await.error()
    };

    assert_eq!(
        analyze("a.m4a", good(), &[("temprature", "0.5")]).await,
        (400, "bad_request".into())
    );
    assert_eq!(
        analyze("a.m4a", good(), &[("temperature", "hot")]).await,
        (400, "bad_request".into())
    );
    assert_eq!(
        analyze("a.m4a", good(), &[("temperature", "1.5")]).await,
        (400, "bad_request".into())
    );
    assert_eq!(
        analyze("a.m4a", good(), &[("task", "sing")]).await,
        (400, "bad_request".into())
    );
    assert_eq!(analyze("a.m4a", good(), &[("language", "xx")]).await.0, 400);
    assert_eq!(
        analyze("a.m4a", good(), &[("timestamps", "word")]).await.0,
        400
    );

    let form = reqwest::multipart::Form::new().text("language", "en");
    let no_file = common::client()
        .post(format!("{}/analyze", host.url))
        .multipart(form)
        .send()
        .await
        .unwrap();
    let no_file = common::answer(no_file).await;
    assert_eq!(no_file.error(), (400, "bad_request".into()));
    assert!(no_file.message().contains("curl"), "{}", no_file.text);

    assert_eq!(
        analyze("a.txt", b"words, not sounds".to_vec(), &[]).await,
        (415, "unsupported_media".into())
    );
    let opus =
        std::fs::read(common::root().join("components/audio/tests/data/formats/opus.ogg")).unwrap();
    let opus = host.analyze("a.ogg", opus, &[]).await;
    assert_eq!(opus.error(), (415, "unsupported_media".into()));
    assert!(opus.message().contains("Opus"), "{}", opus.text);

    assert_eq!(
        analyze("a.wav", Vec::new(), &[]).await,
        (422, "undecodable_audio".into())
    );
    assert_eq!(
        analyze("a.wav", wav(0.0, |_| 0), &[]).await,
        (422, "undecodable_audio".into())
    );
    let mut corrupt = recording("garden.flac");
    corrupt[100..].fill(0xAA);
    assert_eq!(
        analyze("a.flac", corrupt, &[]).await,
        (422, "undecodable_audio".into())
    );

    let wrong_method = host.get("/analyze").await;
    assert_eq!(wrong_method.error(), (405, "method_not_allowed".into()));
    assert_eq!(wrong_method.headers["allow"], "POST");
    assert_eq!(
        host.get("/analyse").await.error(),
        (404, "not_found".into())
    );
    assert_eq!(
        host.get("/stats?since=yesterday").await.error(),
        (400, "bad_request".into())
    );

    // The host still works after all of these.
    assert_eq!(
        words(&host.analyze("home.m4a", good(), &[]).await.transcription()),
        said_in("home.m4a")
    );
}

#[tokio::test]
async fn a_recording_that_is_too_long_is_refused() {
    let manifest = common::default_manifest_with("timeout = \"1m\"").replace(
        "MAX_AUDIO_SECONDS = \"14400\"",
        "MAX_AUDIO_SECONDS = \"6.5\"",
    );
    let host = Host::with_manifest(&manifest, &[]);
    // 5.7 s and 7.3 s.
    let short = host.analyze("a.flac", recording("garden.flac"), &[]).await;
    assert_eq!(short.status, 200, "{}", short.text);
    let long = host.analyze("a.wav", recording("numbers.wav"), &[]).await;
    assert_eq!(long.error(), (413, "audio_too_long".into()));
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413() {
    let host = Host::with_manifest(
        &common::default_manifest_with("request_body = \"100KiB\""),
        &[],
    );
    let large = wav(10.0, |_| 0);
    let declared = host.post("/analyze", large.clone()).await;
    assert_eq!(declared.error(), (413, "body_too_large".into()));
    assert!(
        declared.message().contains("100.0 KiB"),
        "{}",
        declared.text
    );
    let chunks: Vec<_> = large
        .chunks(10_000)
        .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
        .collect();
    let chunked = host
        .post(
            "/analyze",
            reqwest::Body::wrap_stream(futures::stream::iter(chunks)),
        )
        .await;
    assert_eq!(chunked.error(), (413, "body_too_large".into()));
    assert_eq!(
        host.analyze("hum.wav", wav(1.0, |_| 0), &[]).await.status,
        200
    );
}

#[tokio::test]
async fn both_decoder_layouts_give_the_same_words() {
    let model = tempfile::tempdir().unwrap();
    let synthetic = common::root().join("test/models/synthetic");
    std::fs::create_dir(model.path().join("onnx")).unwrap();
    for entry in std::fs::read_dir(&synthetic).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), model.path().join(entry.file_name())).unwrap();
        }
    }
    for name in ["encoder_model", "decoder_model", "decoder_with_past_model"] {
        let name = format!("onnx/{name}_quantized.onnx");
        std::fs::copy(synthetic.join(&name), model.path().join(&name)).unwrap();
    }
    let merged = Host::start();
    let split = Host::with(
        common::state_dir(),
        &["--model", model.path().to_str().unwrap()],
    );
    assert!(merged.start_up.contains("merged"), "{}", merged.start_up);
    assert!(
        split.start_up.contains("decoder_with_past"),
        "{}",
        split.start_up
    );
    for name in RECORDINGS {
        let expected = merged
            .analyze(name, recording(name), &[])
            .await
            .transcription();
        assert_eq!(
            split
                .analyze(name, recording(name), &[])
                .await
                .transcription(),
            expected,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_custom_handler_uses_the_model_and_the_audio_component() {
    let manifest = r#"
spin_manifest_version = 2
application = { name = "example" }

[[trigger.http]]
route = "/words"
component = "word-count"

[component.word-count]
source = "{components}/word-count.wasm"
ai_models = ["whisper"]

[component.word-count.dependencies]
"speech:pipeline/features" = { path = "{components}/audio.wasm" }
"#;
    let host = Host::with_manifest(manifest, &[]);
    let answer = host.post("/words", recording("garden.flac")).await;
    assert_eq!(answer.text.trim(), said_in("garden.flac").len().to_string());
    assert_eq!(host.post("/words", "not audio").await.status, 400);
}

#[tokio::test]
async fn an_offset_past_the_end_of_a_movie_does_not_trap() {
    let host = Host::start();
    let movie = common::root().join("components/audio/tests/data/formats/aac_faststart.m4a");
    let movie = std::fs::read(movie).unwrap();
    let behind = |name: &[u8; 4]| movie.windows(4).position(|four| four == name).unwrap() + 4;
    let heard = host.analyze("a.m4a", movie.clone(), &[]).await;
    let heard = heard.transcription();
    // In a component, `isize` has 32 bits: a distance of 2 GiB does not fit.
    for beyond in [0x9000_0000_u32, 0xffff_fffe] {
        let beyond = beyond.to_be_bytes();
        // The beginning of a film of several gigabytes, whose download was interrupted.
        let mut cut_off = movie.clone();
        let size = behind(b"mdat") - 8;
        cut_off[size..size + 4].copy_from_slice(&beyond);
        let answer = host.analyze("a.m4a", cut_off, &[]).await;
        assert_eq!(answer.transcription(), heard);

        let mut elsewhere = movie.clone();
        let offset = behind(b"stco") + 8;
        elsewhere[offset..offset + 4].copy_from_slice(&beyond);
        let answer = host.analyze("a.m4a", elsewhere, &[]).await;
        assert_eq!(answer.error(), (422, "undecodable_audio".into()));
    }
}

/// Components are 32-bit: an open end must not wrap around to the beginning.
#[tokio::test]
async fn an_edit_that_lasts_to_the_end_plays_all_of_it() {
    let host = Host::start();
    let mut content = recording("home.m4a");
    let list = content.windows(4).position(|four| four == b"elst").unwrap();
    // The length of the first edit follows version, flags and count; 0 means the rest of the file.
    let length = list + 12..list + 16;
    assert_ne!(content[length.clone()], [0; 4]);
    content[length].fill(0);
    let answer = host.analyze("home.m4a", content, &[]).await;
    assert_eq!(words(&answer.transcription()), said_in("home.m4a"));
}
