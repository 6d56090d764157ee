//! A WASI 0.3 handler for tests.

mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        path: "../../../wit/wasi-0.3",
        inline: "package test:probe; world probe {
            include wasi:http/service@0.3.0;
            import wasi:filesystem/preopens@0.3.0;
        }",
        world: "test:probe/probe",
        generate_all,
    });
}

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};

use bindings::wasi::filesystem::preopens;
use bindings::wasi::filesystem::types::{
    Advice, DescriptorFlags, ErrorCode as FileError, OpenFlags, PathFlags,
};
use bindings::wasi::http::client;
use bindings::wasi::http::types::{ErrorCode, Fields, Request, Response, Scheme};

struct Probe;

bindings::export!(Probe with_types_in bindings);

/// Requests served by this instance.
static SERVED: AtomicU32 = AtomicU32::new(0);

impl bindings::exports::wasi::http::handler::Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.get_path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
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
        if name == "fetch-drop-forever" {
            loop {
                drop(start_request(query));
            }
        }
        if name == "fetch-leak-forever" {
            loop {
                std::mem::forget(start_request(query));
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
            "open-files" => open_files(query).await,
            "open-folders" => open_folders().await,
            "read-streams" => read_streams(query).await,
            "metadata" => metadata(query).await,
            "cancel-opens" => cancel_opens(query).await,
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

/// Calls every function that only reads what is known of a file, fifty times at once.
async fn metadata(name: &str) -> String {
    let (root, _) = &preopens::get_directories()[0];
    let all = (0..50).map(|_| async {
        let (flags, open_flags) = (DescriptorFlags::READ, OpenFlags::empty());
        let file = root
            .open_at(PathFlags::empty(), name.into(), open_flags, flags)
            .await?;
        let stat = root.stat_at(PathFlags::empty(), name.into()).await?;
        let hash = file.metadata_hash().await?;
        let hash_at = root
            .metadata_hash_at(PathFlags::empty(), name.into())
            .await?;
        file.advise(0, 0, Advice::Sequential).await?;
        file.sync_data().await?;
        file.sync().await?;
        Ok::<_, FileError>(format!(
            "{:?}, {:?}, {} and {} bytes, {}, {}, {}; {:?}",
            file.get_type().await?,
            file.get_flags().await?,
            file.stat().await?.size,
            stat.size,
            file.is_same_object(&file).await,
            file.is_same_object(root).await,
            (hash.lower, hash.upper) == (hash_at.lower, hash_at.upper),
            root.readlink_at(name.into()).await
        ))
    });
    let mut all = futures::future::join_all(all).await;
    all.dedup_by(|a, b| format!("{a:?}") == format!("{b:?}"));
    format!("{all:?}")
}

/// Opens a file a thousand times without waiting for it, and then until that fails.
async fn cancel_opens(name: &str) -> String {
    let (root, _) = &preopens::get_directories()[0];
    let open = || {
        let (flags, open_flags) = (DescriptorFlags::READ, OpenFlags::empty());
        root.open_at(PathFlags::empty(), name.to_owned(), open_flags, flags)
    };
    for _ in 0..20 {
        let mut calls: Vec<_> = (0..50).map(|_| Box::pin(open())).collect();
        for call in &mut calls {
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(calls);
        wit_bindgen::yield_async().await;
    }
    let mut kept = Vec::new();
    loop {
        match open().await {
            Ok(file) => kept.push(file),
            Err(error) => return format!("{} files, then {error:?}", kept.len()),
        }
    }
}

/// Opens a file until that fails. Each stays open, by its stream only.
async fn open_files(name: &str) -> String {
    let (root, _) = &preopens::get_directories()[0];
    let mut open = Vec::new();
    loop {
        let (flags, open_flags) = (DescriptorFlags::READ, OpenFlags::empty());
        let opened = root.open_at(PathFlags::empty(), name.into(), open_flags, flags);
        match opened.await {
            Ok(file) => open.push(file.read_via_stream(0)),
            Err(error) => return format!("{} files, then {error:?}", open.len()),
        }
    }
}

/// Reads a file by the first of a thousand streams, and by the last.
async fn read_streams(name: &str) -> String {
    let (root, _) = &preopens::get_directories()[0];
    let (flags, open_flags) = (DescriptorFlags::READ, OpenFlags::empty());
    let file = root
        .open_at(PathFlags::empty(), name.into(), open_flags, flags)
        .await
        .expect("the file is there");
    let mut open: Vec<_> = (0..1000).map(|_| file.read_via_stream(0)).collect();
    let mut results = Vec::new();
    for (bytes, result) in [open.remove(0), open.pop().expect("there are more")] {
        let bytes = bytes.collect().await;
        let text = String::from_utf8(bytes).expect("it is text");
        results.push(format!("{text:?}, {:?}", result.await));
    }
    results.join("; then ")
}

/// Reads a folder, and then starts to read it a thousand times, but only reads the last.
async fn open_folders() -> String {
    let (root, _) = &preopens::get_directories()[0];
    let (entries, result) = root.read_directory();
    let entries = entries.collect().await;
    let mut names: Vec<String> = entries
        .into_iter()
        .map(|entry| format!("{}: {:?}", entry.name, entry.type_))
        .collect();
    names.sort();
    let names = format!("{}, {:?}", names.join(", "), result.await);
    let mut open: Vec<_> = (0..1000).map(|_| root.read_directory()).collect();
    let (entries, result) = open.pop().expect("there are a thousand");
    let count = entries.collect().await.len();
    format!("{names}; then {count} entries, {:?}", result.await)
}

type Sent = Pin<Box<dyn Future<Output = Result<Response, ErrorCode>>>>;

/// Sends a request to an authority, without waiting for the response.
fn start_request(authority: &str) -> Sent {
    let (_, trailers) = bindings::wit_future::new(|| Ok(None));
    let request = Request::new(Fields::new(), None, trailers, None).0;
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some("/"));
    let mut sent: Sent = Box::pin(client::send(request));
    let _ = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    sent
}
