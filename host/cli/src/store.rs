//! The time-series store: its settings, and opening and closing it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use timeseries::Store;
use timeseries::influx::{self, Location};

use crate::options::positive_duration;
use crate::scheduler::blocking;

/// The environment variable that InfluxDB's own clients read.
const TOKEN_VARIABLE: &str = "INFLUX_TOKEN";

/// Settings of the store.
#[derive(Args)]
pub struct StoreOptions {
    /// Where the record of calls is kept: `sqlite`, a file in the state folder, or a bucket of InfluxDB 2,
    /// `influxdb://HOST:8086?org=NAME&bucket=NAME` (`influxdbs://` for TLS). Its token is read from the environment variable
    /// INFLUX_TOKEN or from --influx-token-file.
    #[arg(
        long,
        value_name = "STORE",
        default_value = "sqlite",
        env = "WHISPER_HOST_STATS_STORE"
    )]
    stats_store: Backend,

    /// File with the token of InfluxDB.
    #[arg(long, value_name = "FILE", env = "WHISPER_HOST_INFLUX_TOKEN_FILE")]
    influx_token_file: Option<PathBuf>,

    /// How long a call counts for /stats, such as `90d`. Older calls are removed within a minute. Unset: forever. For InfluxDB, the
    /// retention of a bucket that the host creates.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, env = "WHISPER_HOST_STATS_RETENTION")]
    stats_retention: Option<Duration>,

    /// Maximum size of the file in the state folder with the calls that wait for InfluxDB. Beyond it, the oldest are dropped.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1GiB",
        env = "WHISPER_HOST_STATS_SPOOL_SIZE"
    )]
    stats_spool_size: ByteSize,

    /// Maximum time that a call waits for InfluxDB. After it, it is dropped.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = positive_duration, env = "WHISPER_HOST_STATS_SPOOL_AGE")]
    stats_spool_age: Duration,
}

#[derive(Clone)]
enum Backend {
    Sqlite,
    Influx(Location),
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            text if text.starts_with("influxdb") => text.parse().map(Self::Influx),
            _ => Err("must be `sqlite` or influxdb://HOST:8086?org=NAME&bucket=NAME".into()),
        }
    }
}

impl StoreOptions {
    /// Opens the store of a state folder that exists. If it is in SQLite, it may be shared with other hosts.
    ///
    /// # Errors
    /// When a file is not a store, there is no token, or InfluxDB refuses it.
    pub async fn open(&self, state_dir: &Path, shared: bool) -> anyhow::Result<Store> {
        let Backend::Influx(location) = &self.stats_store else {
            let path = sqlite_path(state_dir);
            let retention = self.stats_retention;
            return blocking(move || {
                Ok(match shared {
                    true => Store::open_shared(path, retention)?,
                    false => Store::open_sqlite(path, retention)?,
                })
            })
            .await;
        };
        fetch::use_ring();
        let token = self.token()?;
        let spool = state_dir.join("timeseries-spool.sqlite");
        let mut config =
            influx::Config::new(location.clone(), &token, spool).map_err(anyhow::Error::msg)?;
        config.retention = self.stats_retention;
        config.max_bytes = self.stats_spool_size.as_u64();
        config.max_age = self.stats_spool_age;
        Ok(Store::open_influx(config).await?)
    }

    /// Returns how long a call counts.
    pub fn retention(&self) -> Option<Duration> {
        self.stats_retention
    }

    /// Returns where the store is, for people.
    pub fn describe(&self, state_dir: &Path) -> String {
        match &self.stats_store {
            Backend::Sqlite => format!("{} (SQLite)", sqlite_path(state_dir).display()),
            Backend::Influx(location) => format!("{location} (InfluxDB)"),
        }
    }

    fn token(&self) -> anyhow::Result<String> {
        let token = match &self.influx_token_file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the token of InfluxDB from {}", file.display()))?,
            None => std::env::var(TOKEN_VARIABLE).with_context(|| {
                format!("InfluxDB needs a token: set the environment variable {TOKEN_VARIABLE}, or give --influx-token-file")
            })?,
        };
        let token = token.trim();
        anyhow::ensure!(!token.is_empty(), "the token of InfluxDB is empty");
        Ok(token.to_owned())
    }
}

fn sqlite_path(state_dir: &Path) -> PathBuf {
    state_dir.join("timeseries.sqlite")
}

/// Closes the store, unless aborted requests still hold it: acknowledged writes are on disk in any case.
///
/// # Errors
/// When the store cannot finish its last writes.
pub async fn close(store: Arc<Store>) -> anyhow::Result<()> {
    match Arc::into_inner(store) {
        Some(store) => store.close().await.context("cannot close the store"),
        None => Ok(()),
    }
}
