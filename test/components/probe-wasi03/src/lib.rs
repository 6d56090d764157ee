//! A WASI 0.3 handler for tests.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: "../../../wit/wasi-0.3",
        world: "speech:wasi-p3/service",
        generate_all,
    });
}

use std::sync::atomic::{AtomicU32, Ordering};

use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response};

struct Probe;

bindings::export!(Probe with_types_in bindings);

/// Requests served by this instance.
static SERVED: AtomicU32 = AtomicU32::new(0);

impl bindings::exports::wasi::http::handler::Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.get_path_with_query().unwrap_or_default();
        let name = path
            .rsplit_once('/')
            .map_or(path.as_str(), |(_, name)| name);
        if name == "echo" {
            let (_, result) = bindings::wit_future::new(|| Ok(()));
            let (body, trailers) = Request::consume_body(request, result);
            return Ok(Response::new(Fields::new(), Some(body), trailers).0);
        }
        if name == "error" {
            return Err(ErrorCode::ConfigurationError);
        }
        if name == "trap" {
            panic!("a trap was asked for");
        }
        if name == "spin" {
            let mut x = 1u64;
            loop {
                x = std::hint::black_box(x.wrapping_mul(3));
            }
        }
        if name == "print-line-feeds" {
            let (mut writer, lines) = bindings::wit_stream::new();
            let printed = bindings::wasi::cli::stdout::write_via_stream(lines);
            let _ = writer.write_all(vec![b'\n'; 4 << 20]).await;
            drop(writer);
            let _ = printed.await;
        }
        let text = match name {
            "count" => served.to_string(),
            _ => "hello from 0.3".to_owned(),
        };
        let (mut writer, body) = bindings::wit_stream::new();
        wit_bindgen::spawn_local(async move {
            let _ = writer.write_all(text.into_bytes()).await;
        });
        let (_, trailers) = bindings::wit_future::new(|| Ok(None));
        Ok(Response::new(Fields::new(), Some(body), trailers).0)
    }
}
