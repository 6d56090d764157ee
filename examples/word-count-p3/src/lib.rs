//! The example `word-count` as a WASI 0.3 handler: request and response bodies are streams, used from async Rust.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: ["../../wit", "../../wit/wasi-0.3"],
        inline: "
            package example:word-count;
            world handler {
                include speech:wasi-p3/service@0.1.0;
                import speech:pipeline/inference@0.1.0;
                import speech:pipeline/features@0.1.0;
            }
        ",
        world: "example:word-count/handler",
        generate_all,
    });
}

use bindings::exports::wasi::http0_3_0::handler::Guest;
use bindings::speech::pipeline::features::{Hint, Recording};
use bindings::speech::pipeline::inference::{self, Transcription};
use bindings::wasi::http0_3_0::types::{ErrorCode, Fields, Request, Response};
use wit_bindgen::StreamResult;

struct WordCount;

bindings::export!(WordCount with_types_in bindings);

impl Guest for WordCount {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (status, text) = match count(request).await {
            Ok(words) => (200, format!("{words}\n")),
            Err(message) => (400, format!("{message}\n")),
        };
        let (mut writer, body) = bindings::wit_stream::new();
        wit_bindgen::spawn_local(async move {
            // Fails if the client has disconnected.
            let _ = writer.write_all(text.into_bytes()).await;
        });
        let (_, trailers) = bindings::wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        let _ = response.set_status_code(status);
        Ok(response)
    }
}

async fn count(request: Request) -> Result<usize, String> {
    // Stream the request body to the component `audio`.
    let recording = Recording::new(&Hint {
        media_type: None,
        file_name: None,
    });
    let (_, result) = bindings::wit_future::new(|| Ok(()));
    let (mut body, trailers) = Request::consume_body(request, result);
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let (status, bytes) = body.read(buffer).await;
        recording.append(&bytes);
        if status == StreamResult::Dropped {
            break;
        }
        buffer = bytes;
        buffer.clear();
    }
    trailers.await.map_err(|error| error.to_string())?;

    // Push its frames to the host, block by block, and read the segments.
    let models = inference::models();
    let model = models.first().ok_or("no model is granted")?;
    let frames = Recording::open(recording, model.n_mels).map_err(|error| error.to_string())?;
    let transcription =
        Transcription::start(&inference::default_options()).map_err(|error| error.to_string())?;
    while let Some(block) = frames.read().map_err(|error| error.to_string())? {
        transcription
            .push(&block)
            .map_err(|error| error.to_string())?;
    }
    transcription.finish().map_err(|error| error.to_string())?;
    let mut words = 0;
    while let Some(segment) = transcription.next().map_err(|error| error.to_string())? {
        words += segment.text.split_whitespace().count();
    }
    Ok(words)
}
