//! A handler for tests that reads what its manifest grants: variables, files, and the headers of its request.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../host/runtime/wit", "wit"],
        inline: "package test:probe;
            world probe {
                include wasi:http/proxy@0.2.12;
                import fermyon:spin/variables@2.0.0;
                import wasi:config/store@0.2.0-rc.1;
            }",
        world: "test:probe/probe",
        generate_all,
    });
}

use bindings::fermyon::spin::variables;
use bindings::wasi::config::store;
use bindings::wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Probe;

bindings::export!(Probe with_types_in bindings);

impl bindings::exports::wasi::http::incoming_handler::Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        // Routes may have any prefix; the last segment selects the probe.
        match path.rsplit_once('/').map_or(path, |(_, name)| name) {
            "spin-variable" => answer(out, &format!("{:?}", variables::get(query))),
            "variable" => answer(out, &format!("{:?}", store::get(query))),
            "variables" => {
                let mut all = store::get_all().unwrap_or_default();
                all.sort();
                answer(out, &format!("{all:?}"));
            }
            "file" => answer(
                out,
                &std::fs::read_to_string(query).unwrap_or_else(|error| error.to_string()),
            ),
            "write" => answer(out, &format!("{:?}", std::fs::write(query, "written"))),
            _ => answer(out, &spin_headers(&request)),
        }
    }
}

/// The headers that start with `spin-`, one per line.
fn spin_headers(request: &IncomingRequest) -> String {
    let mut lines: Vec<String> = request
        .headers()
        .entries()
        .into_iter()
        .filter(|(name, _)| name.starts_with("spin-"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
        .collect();
    lines.sort();
    lines.join("\n")
}

fn answer(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
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
