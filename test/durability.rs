//! Calls with a response are not lost, whatever happens to the process.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Host, wav};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kill_under_load_loses_no_call_with_a_response() {
    let host = Host::start();
    let answered = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (url, answered) = (format!("{}/analyze", host.url), Arc::clone(&answered));
            tokio::spawn(async move {
                let client = common::client();
                loop {
                    let Ok(response) = client.post(&url).body(wav(0.5, |_| 0)).send().await else {
                        break;
                    };
                    if response.status() == 200 && response.bytes().await.is_ok() {
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    common::eventually(async || (answered.load(Ordering::SeqCst) >= 50).then_some(())).await;
    let state = host.kill();
    for caller in callers {
        caller.await.unwrap();
    }
    let answered = answered.load(Ordering::SeqCst);
    let host = Host::with(state, &[]);
    let recorded = host.get("/stats").await.json()["total_calls"]
        .as_u64()
        .unwrap() as usize;
    assert!(
        recorded >= answered,
        "{recorded} calls are recorded, but {answered} were answered"
    );
    // At most one more per caller: recorded, but killed before the response was sent.
    assert!(
        recorded <= answered + 8,
        "{recorded} calls are recorded, but {answered} were answered"
    );
}

#[tokio::test]
async fn a_restart_keeps_the_statistics() {
    let mut host = Host::start();
    host.analyze("hum.wav", wav(2.0, |_| 0), &[]).await;
    let before = host.get("/stats").await.text;
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    let host = Host::with(host.kill(), &[]);
    assert_eq!(host.get("/stats").await.text, before);
}

#[tokio::test]
async fn calls_older_than_the_retention_do_not_count() {
    let mut host = Host::start();
    host.analyze("hum.wav", wav(2.0, |_| 0), &[]).await;
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    let state = host.kill();
    let mut host = Host::with(state, &["--stats-retention", "1h"]);
    assert_eq!(host.get("/stats").await.json()["total_calls"], 1);
    host.signal(rustix::process::Signal::TERM);
    assert_eq!(host.exit_code().await, Some(0));
    let host = Host::with(host.kill(), &["--stats-retention", "1ms"]);
    common::eventually(async || {
        let stats = host.get("/stats").await.json();
        (stats["total_calls"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_start_removes_unused_and_leftover_temporary_files() {
    let host = Host::start();
    let state = host.kill();
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 3600);
    let digest = "0123456789abcdef".repeat(4);
    let own = |folder: &str, end: &str| format!("{folder}/{digest}{end}");
    let entries = [
        (own("code", "-old.cwasm"), days(31)),
        (own("code", "-new.cwasm"), days(29)),
        (own("models", "-1.safetensors"), days(31)),
        (own("sources", ".wasm"), days(31)),
        (own("sources", ".incomplete"), days(2)),
        ("sources/.tmpAbC123".to_owned(), days(1)),
        ("deployments/.tmpAbC123".to_owned(), days(1)),
        ("models/mine".to_owned(), days(31)),
    ];
    for (name, age) in &entries {
        let path = state.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(path).unwrap();
        let then = std::time::SystemTime::now() - *age;
        let times = std::fs::FileTimes::new();
        file.set_times(times.set_accessed(then).set_modified(then))
            .unwrap();
    }
    let code = |state: &std::path::Path| std::fs::read_dir(state.join("code")).unwrap().count();
    let compiled = code(state.path());
    let path = state.path().to_path_buf();
    let host = Host::with(state, &[]);
    common::eventually(async || {
        let left = entries.each_ref().map(|(name, _)| path.join(name).exists());
        (left == [false, true, false, false, false, false, false, true]).then_some(())
    })
    .await;
    assert_eq!(code(&path), compiled - 1);
    drop(host);
}

/// Regression: a second host overwrote the first one's deployment record, even if it could not start.
#[tokio::test]
async fn a_second_host_does_not_touch_the_state_of_the_first() {
    let host = Host::start();
    let record = host.state.path().join("deployments");
    let contents = || {
        let mut files: Vec<_> = walk(&record);
        files.sort();
        files
    };
    let before = contents();
    for listen in ["127.0.0.1:0", host.address()] {
        let second = common::whisper_host()
            .args([
                "up",
                "--listen",
                listen,
                "--admin-listen",
                "127.0.0.1:0",
                "--state-dir",
            ])
            .arg(host.state.path())
            .output()
            .unwrap();
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8(second.stderr).unwrap();
        assert!(
            said.contains("another host uses") && said.contains("--state-dir"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert_eq!(contents(), before);
    // A killed host does not keep the lock.
    let host = Host::with(host.kill(), &[]);
    assert_eq!(
        host.get("/healthz").await.headers["content-type"],
        "application/json"
    );
}

/// The files in a folder, recursively, with their contents.
fn walk(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path().is_dir() {
            true => walk(&entry.path()),
            false => vec![(entry.path(), std::fs::read(entry.path()).unwrap())],
        })
        .collect()
}
