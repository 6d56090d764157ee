//! A WASI 0.2 handler for tests: each path does one thing that a host must handle.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "package test:probe; world probe { include wasi:http/proxy@0.2.12; import wasi:filesystem/preopens@0.2.12; }",
        world: "test:probe/probe",
        generate_all,
    });
}

use std::sync::atomic::{AtomicU32, Ordering};

use bindings::wasi::clocks::monotonic_clock;
use bindings::wasi::filesystem::preopens::get_directories;
use bindings::wasi::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use bindings::wasi::io::streams::{OutputStream, StreamError};
use bindings::wasi::random::random;

struct Probe;

bindings::export!(Probe with_types_in bindings);

/// Requests served by this instance.
static SERVED: AtomicU32 = AtomicU32::new(0);

impl bindings::exports::wasi::http::incoming_handler::Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        // Routes may have any prefix; the last segment selects the probe.
        match path.rsplit_once('/').map_or(path, |(_, name)| name) {
            "hello" => answer(out, "hello"),
            "count" => answer(out, &served.to_string()),
            "environment" => {
                let mut lines: Vec<String> = std::env::vars()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                lines.sort();
                answer(out, &lines.join("\n"));
            }
            "headers" => {
                let mut names: Vec<String> = request
                    .headers()
                    .entries()
                    .into_iter()
                    .map(|(name, _)| name)
                    .collect();
                names.sort();
                answer(out, &names.join("\n"));
            }
            "print" => {
                println!("to standard output");
                eprintln!("to standard error");
                answer(out, "printed");
            }
            "print-much" => {
                // 12 MiB, in lines of 80 bytes.
                let line = "x".repeat(79);
                for _ in 0..(12 << 20) / 80 {
                    println!("{line}");
                }
                answer(out, "printed");
            }
            "random-forever" => loop {
                std::hint::black_box(random::get_random_bytes(60 << 20));
            },
            "random-pieces-forever" => loop {
                std::hint::black_box(random::get_random_bytes(64 << 10));
            },
            "echo" => echo(request, out),
            "ignore-body" => answer(out, "not read"),
            "work-afterwards" => {
                answer(out, "answered");
                monotonic_clock::subscribe_duration(1_000_000_000).block();
                println!("done afterwards");
            }
            "work-afterwards-sized" => {
                let text = "answered";
                let length = text.len().to_string().into_bytes();
                let fields = Fields::from_list(&[("content-length".into(), length)]);
                answer_with(fields.expect("it is valid"), out, text);
                monotonic_clock::subscribe_duration(1_000_000_000).block();
                println!("done afterwards");
            }
            "write-ahead" => write_ahead(query.parse().unwrap_or(0), out),
            "stream-forever" => stream_forever(out),
            "spin" => spin(),
            "sleep" => monotonic_clock::subscribe_duration(3_600_000_000_000).block(),
            "pause" => {
                let milliseconds: u64 = query.parse().unwrap_or(0);
                monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
                answer(out, "paused");
            }
            "allocate" => allocate(),
            "recurse" => answer(out, &recurse(u64::from(served)).to_string()),
            "trap" => panic!("a trap was asked for"),
            "trap-before-body" => {
                let parts = start(out);
                drop(parts);
                panic!("a trap was asked for");
            }
            "status" => {
                let response = OutgoingResponse::new(Fields::new());
                let _ = response.set_status_code(query.parse().unwrap_or(500));
                ResponseOutparam::set(out, Ok(response));
            }
            "large-refusal" => {
                let response = OutgoingResponse::new(Fields::new());
                let _ = response.set_status_code(400);
                respond(response, out, &"x".repeat(3 << 20));
            }
            "trap-midway" => {
                let (body, stream) = start(out);
                let _ = stream.blocking_write_and_flush(b"part of the answer");
                drop((body, stream));
                panic!("a trap was asked for");
            }
            "leak-resources" => leak_resources(),
            "no-answer" => drop(out),
            "error" => ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError)),
            "spin-afterwards" => {
                answer(out, "answered");
                spin();
            }
            "spin-midway" => {
                let (_body, stream) = start(out);
                let _ = stream.blocking_write_and_flush(b"part of the answer");
                spin();
            }
            "allocate-midway" => {
                let (_body, stream) = start(out);
                let _ = stream.blocking_write_and_flush(b"part of the answer");
                allocate();
            }
            "open-files" => {
                let mut open = Vec::new();
                let error = loop {
                    match std::fs::File::open(format!("/{query}")) {
                        Ok(file) => open.push(file),
                        Err(error) => break error,
                    }
                };
                answer(out, &format!("{} files, then {error}", open.len()));
            }
            "list-folders" => {
                let (root, _) = &get_directories()[0];
                let mut open = Vec::new();
                let error = loop {
                    match root.read_directory() {
                        Ok(listing) => open.push(listing),
                        Err(error) => break error,
                    }
                };
                // A listing that is dropped no longer counts.
                open.pop();
                let again = root.read_directory().is_ok();
                answer(
                    out,
                    &format!("{} listings, then {error}; {again}", open.len() + 1),
                );
            }
            "read-streams" => {
                let (root, _) = &get_directories()[0];
                let file = root
                    .open_at(
                        PathFlags::empty(),
                        query,
                        OpenFlags::empty(),
                        DescriptorFlags::READ,
                    )
                    .unwrap();
                let mut open = Vec::new();
                let error = loop {
                    match file.read_via_stream(0) {
                        Ok(stream) => open.push(stream),
                        Err(error) => break error,
                    }
                };
                // They are readable, each in both ways.
                let mut texts = std::collections::BTreeSet::new();
                for stream in &open {
                    let mut text = stream.blocking_read(1).unwrap();
                    while let Ok(bytes) = stream.read(1000) {
                        if bytes.is_empty() {
                            stream.subscribe().block();
                        }
                        text.extend(bytes);
                    }
                    texts.insert(String::from_utf8(text).unwrap());
                }
                answer(
                    out,
                    &format!("{} streams of {texts:?}, then {error}", open.len()),
                );
            }
            "fetch" => fetch(query, out),
            "error-long" => {
                let text = "\u{1}".repeat(1_000_000);
                ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(text))));
            }
            "fetch-without-path" => {
                let request = OutgoingRequest::new(Fields::new());
                let _ = request.set_scheme(Some(&Scheme::Http));
                let _ = request.set_authority(Some("example.com"));
                let refused = outgoing_handler::handle(request, None).is_err();
                answer(out, if refused { "refused" } else { "sent" });
            }
            "fetch-flood" => fetch_flood(query),
            "fetch-drop-forever" => loop {
                drop(outgoing_handler::handle(request_to(query), None));
            },
            "stdout-drop-forever" => loop {
                drop(bindings::wasi::cli::stdout::get_stdout());
            },
            "many-headers" => many_headers(out),
            _ => answer(out, "no such probe"),
        }
    }
}

fn start(out: ResponseOutparam) -> (OutgoingBody, OutputStream) {
    start_with(Fields::new(), out)
}

fn start_with(fields: Fields, out: ResponseOutparam) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(fields);
    let body = response.body().expect("the first time");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first time");
    (body, stream)
}

/// Writes `size` bytes before it sets the response.
fn write_ahead(mut size: usize, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the first time");
    let stream = body.write().expect("the first time");
    while size > 0 {
        stream.subscribe().block();
        let room = stream.check_write().expect("nobody closes it") as usize;
        let piece = room.min(size);
        stream.write(&vec![b'x'; piece]).expect("there is room");
        size -= piece;
    }
    ResponseOutparam::set(out, Ok(response));
    let _ = stream.blocking_flush();
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn answer(out: ResponseOutparam, text: &str) {
    answer_with(Fields::new(), out, text);
}

fn answer_with(fields: Fields, out: ResponseOutparam, text: &str) {
    respond(OutgoingResponse::new(fields), out, text);
}

fn respond(response: OutgoingResponse, out: ResponseOutparam, text: &str) {
    let body = response.body().expect("the first time");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first time");
    for piece in text.as_bytes().chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the first time");
    let input = incoming.stream().expect("the first time");
    let (body, output) = start(out);
    loop {
        match input.blocking_read(4096) {
            Ok(bytes) => {
                if output.blocking_write_and_flush(&bytes).is_err() {
                    return;
                }
            }
            Err(StreamError::Closed) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    drop((input, output));
    drop(IncomingBody::finish(incoming));
    let _ = OutgoingBody::finish(body, None);
}

fn stream_forever(out: ResponseOutparam) {
    let (_body, stream) = start(out);
    while stream.blocking_write_and_flush(&[b'x'; 4096]).is_ok() {}
}

fn spin() {
    let mut x = 1u64;
    loop {
        x = std::hint::black_box(x.wrapping_mul(3));
    }
}

fn allocate() {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[(depth % 64) as usize]
}

fn leak_resources() {
    loop {
        std::mem::forget(Fields::new());
    }
}

/// A request to `AUTHORITY/PATH`, over plain HTTP, or to `https://AUTHORITY/PATH`. With `AUTHORITY!`, the path is the rest, verbatim.
fn request_to(url: &str) -> OutgoingRequest {
    let (scheme, url) = match url.strip_prefix("https://") {
        Some(url) => (Scheme::Https, url),
        None => (Scheme::Http, url),
    };
    let (authority, path) = match (url.split_once('!'), url.split_once('/')) {
        (Some((authority, target)), _) => (authority, target.to_owned()),
        (None, Some((authority, path))) => (authority, format!("/{path}")),
        (None, None) => (url, "/".to_owned()),
    };
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&scheme));
    let _ = request.set_authority(Some(authority));
    if request.set_path_with_query(Some(&path)).is_err() {
        eprintln!("{path} is not a valid path");
    }
    request
}

/// Opens ten thousand requests and waits for none of them.
fn fetch_flood(url: &str) {
    let flood: Vec<_> = (0..10_000)
        .map(|_| outgoing_handler::handle(request_to(url), None))
        .collect();
    monotonic_clock::subscribe_duration(3_600_000_000_000).block();
    drop(flood);
}

/// Puts a million headers into one response.
fn many_headers(out: ResponseOutparam) {
    let fields = Fields::new();
    for i in 0..1_000_000 {
        let _ = fields.append(&format!("x-{i}"), b"y");
    }
    ResponseOutparam::set(out, Ok(OutgoingResponse::new(fields)));
}

/// Responds with the status, or with the error.
fn fetch(url: &str, out: ResponseOutparam) {
    let request = request_to(url);
    let result = outgoing_handler::handle(request, None).and_then(|future| {
        future.subscribe().block();
        future.get().expect("it is ready").expect("the first time")
    });
    match result {
        Ok(response) => answer(out, &response.status().to_string()),
        Err(error) => answer(out, &format!("{error:?}")),
    }
}
