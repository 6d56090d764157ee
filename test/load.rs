//! Many uploads at once, good and bad.

mod common;

use common::{Host, RECORDINGS, recording, said_in, word_errors, words};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Maximum resident memory of the process, in kB: 100 MB for the model and the code, and for each of 16 concurrent
/// requests an instance with its body, up to 25 MB here. The bodies of waiting requests stay in the sockets.
const MAX_RESIDENT_KB: u64 = 500_000;

/// Repetitions of the longest recording, of 35 s, to make ten minutes.
const TIMES: usize = 18;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_concurrent_uploads_some_truncated_some_garbage_some_long() {
    let host = Host::start();
    // Ogg streams can be concatenated.
    let long = recording("journey.ogg").repeat(TIMES);
    let mut uploads = tokio::task::JoinSet::new();
    for i in 0..64 {
        let (url, address) = (format!("{}/analyze", host.url), host.address().to_owned());
        let long = long.clone();
        uploads.spawn(async move {
            let client = common::client();
            let post = async |body: Vec<u8>| {
                common::answer(client.post(&url).body(body).send().await.unwrap()).await
            };
            match i % 8 {
                // Truncated: part of the body, then disconnect.
                0 => {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    let head = format!(
                        "POST /analyze HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                        long.len()
                    );
                    stream.write_all(head.as_bytes()).await.unwrap();
                    // The host may refuse to read it all: either way this client disconnects.
                    let _ = stream.write_all(&long[..100_000]).await;
                }
                1 => assert_eq!(
                    post(b"garbage ".repeat(10_000)).await.error(),
                    (415, "unsupported_media".into())
                ),
                2 => {
                    let mut corrupt = recording("garden.flac");
                    corrupt[100..].fill(0xAA);
                    assert_eq!(
                        post(corrupt).await.error(),
                        (422, "undecodable_audio".into())
                    );
                }
                3 => {
                    let heard = words(&post(long).await.transcription());
                    let said = vec![said_in("journey.ogg"); TIMES].concat();
                    let errors = word_errors(&said, &heard);
                    let all = said.len();
                    assert!(
                        errors * 100 <= all,
                        "{errors} of {all} words wrong in ten minutes"
                    );
                }
                _ => {
                    let name = RECORDINGS[i % RECORDINGS.len()];
                    assert_eq!(
                        words(&post(recording(name)).await.transcription()),
                        said_in(name),
                        "{name}"
                    );
                }
            }
        });
    }
    while let Some(upload) = uploads.join_next().await {
        upload.unwrap();
    }
    assert_eq!(
        words(
            &host
                .analyze("home.m4a", recording("home.m4a"), &[])
                .await
                .transcription()
        ),
        said_in("home.m4a")
    );
    // Only if the system provides it.
    if !cfg!(target_os = "linux") {
        eprintln!("not checked: peak resident memory, which only Linux provides in /proc");
        return;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!("peak resident memory: {peak} kB");
    assert!(peak < MAX_RESIDENT_KB, "peak resident memory {peak} kB");
}
