//! Example handler: `POST` a recording, and it responds with the number of words in it.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "speech:pipeline/handler",
        generate_all,
    });
}

use bindings::exports::wasi::http::incoming_handler::Guest;
use bindings::speech::pipeline::features::{Hint, Recording};
use bindings::speech::pipeline::inference::{self, Transcription};
use bindings::wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use bindings::wasi::io::streams::StreamError;

struct WordCount;

bindings::export!(WordCount with_types_in bindings);

impl Guest for WordCount {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, text) = match count(request) {
            Ok(words) => (200, format!("{words}\n")),
            Err(message) => (400, format!("{message}\n")),
        };
        respond(out, status, &text);
    }
}

fn count(request: IncomingRequest) -> Result<usize, String> {
    // Stream the request body to the component `audio`.
    let recording = Recording::new(&Hint {
        media_type: None,
        file_name: None,
    });
    let body = request.consume().map_err(|()| "there is no body")?;
    let stream = body.stream().map_err(|()| "there is no body")?;
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => recording.append(&bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }

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

fn respond(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    if response.set_status_code(status).is_err() {
        return;
    }
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(text.as_bytes());
    }
    let _ = OutgoingBody::finish(body, None);
}
