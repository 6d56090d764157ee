//! A real NATS server.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{eventually, free_address, server_program};

/// A NATS server with JetStream, on loopback. Dropping it kills it.
pub struct Nats {
    program: PathBuf,
    address: String,
    /// Its streams, and its log.
    pub folder: tempfile::TempDir,
    config: String,
    process: Child,
}

impl Nats {
    /// Starts a server. `None` if there is no program: prints a message.
    pub async fn start() -> Option<Self> {
        Self::with("").await
    }

    /// Starts a server with more lines of configuration, in which `{folder}` is its folder.
    pub async fn with(config: &str) -> Option<Self> {
        let program = server_program("nats-server")?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{{folder}}/jetstream\" }}\n{config}"
        );
        let config = config.replace("{folder}", folder.path().to_str().unwrap());
        let process = run(&program, folder.path(), &config);
        let nats = Self {
            program,
            address,
            folder,
            config,
            process,
        };
        nats.wait().await;
        Some(nats)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Starts it again, on the same port and with the same streams.
    pub async fn restart(&mut self) {
        self.process = run(&self.program, self.folder.path(), &self.config);
        self.wait().await;
    }

    /// Waits until it listens.
    async fn wait(&self) {
        eventually(async || tokio::net::TcpStream::connect(&self.address).await.ok()).await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &Path, folder: &Path, config: &str) -> Child {
    let file = folder.join("nats.conf");
    std::fs::write(&file, config).unwrap();
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    Command::new(program)
        .arg("-c")
        .arg(file)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
