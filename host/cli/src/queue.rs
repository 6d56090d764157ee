//! The connection to NATS: its settings, and opening it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use queue::{Config, Connection, Identity, Server, jobs};
use runtime::Webhooks;

use crate::options::{at_least_one, positive_duration};

/// The environment variable with the password of `--nats-user`, which NATS's own command line reads, too.
const PASSWORD_VARIABLE: &str = "NATS_PASSWORD";
/// The environment variable with a token.
const TOKEN_VARIABLE: &str = "NATS_TOKEN";
/// The environment variable with the secret of callbacks.
const SECRET_VARIABLE: &str = "WEBHOOK_SECRET";

/// What a host shares with others.
#[derive(Default)]
pub struct Queue {
    pub role: runtime::Role,
    /// The connection to NATS, if there is one, and how jobs are kept there.
    pub jobs: Option<(Connection, jobs::Config)>,
    pub webhooks: Option<Webhooks>,
}

impl Queue {
    /// Returns the connection to NATS, if there is one.
    pub fn connection(&self) -> Option<Connection> {
        let jobs = self.jobs.as_ref();
        jobs.map(|(connection, _)| connection.clone())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// All of the work.
    All,
    /// HTTP requests, without a model: those to components that use one go to workers.
    Http,
    /// Jobs, messages, schedules, and what hosts with `http` hand over. Answers no HTTP requests but /healthz and /readyz.
    Worker,
}

impl From<Role> for runtime::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::All => Self::All,
            Role::Http => Self::Http,
            Role::Worker => Self::Worker,
        }
    }
}

/// Settings of the connection to NATS.
#[derive(Args)]
pub struct QueueOptions {
    /// Which part of the work this host does, if several share it through NATS.
    #[arg(long, value_enum, default_value_t = Role::All, env = "WHISPER_HOST_ROLE")]
    role: Role,

    /// A NATS server, `nats://HOST:4222` (`tls://` for TLS). May be repeated, or list several servers of a cluster separated by
    /// commas. Unset: the host receives and sends no messages.
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        env = "WHISPER_HOST_NATS",
        hide_env_values = true,
        hide_default_value = true
    )]
    nats: Vec<Server>,

    /// File with the credentials for NATS, as `nsc` writes it: a JWT and its seed.
    #[arg(
        long,
        value_name = "FILE",
        env = "WHISPER_HOST_NATS_CREDS",
        group = "nats_identity"
    )]
    nats_creds: Option<PathBuf>,

    /// File with the seed of the nkey for NATS.
    #[arg(
        long,
        value_name = "FILE",
        env = "WHISPER_HOST_NATS_NKEY",
        group = "nats_identity"
    )]
    nats_nkey: Option<PathBuf>,

    /// User for NATS. The password is read from the environment variable NATS_PASSWORD. For a token, set NATS_TOKEN instead.
    #[arg(
        long,
        value_name = "NAME",
        env = "WHISPER_HOST_NATS_USER",
        group = "nats_identity"
    )]
    nats_user: Option<String>,

    /// Certificate authorities, as PEM, that sign the certificates of NATS servers, instead of the system's. May be repeated, or list
    /// several separated by commas.
    #[arg(
        long,
        value_name = "FILE",
        value_delimiter = ',',
        env = "WHISPER_HOST_NATS_CA"
    )]
    nats_ca: Vec<PathBuf>,

    /// Certificate, as PEM, that proves to NATS servers who the host is.
    #[arg(
        long,
        value_name = "FILE",
        requires = "nats_key",
        env = "WHISPER_HOST_NATS_CERT"
    )]
    nats_cert: Option<PathBuf>,

    /// Key of that certificate.
    #[arg(
        long,
        value_name = "FILE",
        requires = "nats_cert",
        env = "WHISPER_HOST_NATS_KEY"
    )]
    nats_key: Option<PathBuf>,

    /// How long a job is kept after its last change, with its recording and its result.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = positive_duration, env = "WHISPER_HOST_JOBS_RETENTION")]
    jobs_retention: Duration,

    /// How long a worker may be silent before its job goes to another one. Workers that are alive say so more often.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_duration, env = "WHISPER_HOST_JOBS_ACK_WAIT")]
    jobs_ack_wait: Duration,

    /// How often a job is started at most, if its worker ends or its component fails.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), env = "WHISPER_HOST_JOBS_ATTEMPTS")]
    jobs_attempts: u32,

    /// Servers of the NATS cluster that keep each job, and each call that hosts share.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one, env = "WHISPER_HOST_JOBS_REPLICAS")]
    jobs_replicas: usize,

    /// Maximum size of all recordings and long results of jobs together, which NATS reserves on its disk. Beyond it, jobs are
    /// refused.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "4GiB",
        env = "WHISPER_HOST_JOBS_MAX_BYTES"
    )]
    jobs_max_bytes: ByteSize,

    /// File with the secret that signs the callbacks of jobs, `whsec_` and base 64, as Standard Webhooks has it. It may be in the
    /// environment variable WEBHOOK_SECRET instead.
    #[arg(long, value_name = "FILE", env = "WHISPER_HOST_WEBHOOK_SECRET_FILE")]
    webhook_secret_file: Option<PathBuf>,
}

impl QueueOptions {
    /// Connects to NATS, if there is a server.
    ///
    /// # Errors
    /// When the settings are incomplete, or the server does not accept the host.
    pub async fn open(&self) -> anyhow::Result<Queue> {
        let role = self.role();
        let webhooks = self.webhooks()?;
        if self.nats.is_empty() {
            anyhow::ensure!(
                role == runtime::Role::All,
                "--role needs NATS, through which hosts share the work: add --nats nats://HOST:4222"
            );
            return Ok(Queue::default());
        }
        fetch::use_ring();
        let config = Config {
            servers: self.nats.clone(),
            identity: self.identity()?,
            authorities: self.nats_ca.clone(),
            certificate: self.nats_cert.clone().zip(self.nats_key.clone()),
        };
        let connection = Connection::open(config).await?;
        Ok(Queue {
            role,
            jobs: Some((connection, self.jobs())),
            webhooks,
        })
    }

    /// Returns which part of the work this host does.
    pub fn role(&self) -> runtime::Role {
        self.role.into()
    }

    /// Returns how many servers of the cluster keep what hosts share.
    pub fn replicas(&self) -> usize {
        self.jobs_replicas
    }

    fn webhooks(&self) -> anyhow::Result<Option<Webhooks>> {
        let secret = match &self.webhook_secret_file {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some(read.with_context(|| {
                    format!("cannot read the webhook secret from {}", file.display())
                })?)
            }
            None => std::env::var(SECRET_VARIABLE).ok(),
        };
        secret
            .map(|secret| Webhooks::new(secret.trim()))
            .transpose()
    }

    fn jobs(&self) -> jobs::Config {
        jobs::Config {
            retention: self.jobs_retention,
            ack_wait: self.jobs_ack_wait,
            attempts: self.jobs_attempts,
            replicas: self.jobs_replicas,
            max_bytes: self.jobs_max_bytes.as_u64(),
        }
    }

    /// Returns where the servers are, for people.
    pub fn describe(&self) -> Option<String> {
        let servers: Vec<String> = self.nats.iter().map(ToString::to_string).collect();
        (!servers.is_empty()).then(|| servers.join(", "))
    }

    fn identity(&self) -> anyhow::Result<Option<Identity>> {
        if let Some(file) = &self.nats_creds {
            return Ok(Some(Identity::Credentials(file.clone())));
        }
        if let Some(file) = &self.nats_nkey {
            return Ok(Some(Identity::Nkey(file.clone())));
        }
        if let Some(name) = &self.nats_user {
            let Ok(password) = std::env::var(PASSWORD_VARIABLE) else {
                anyhow::bail!(
                    "--nats-user needs a password: set the environment variable {PASSWORD_VARIABLE}"
                );
            };
            return Ok(Some(Identity::User(name.clone(), password)));
        }
        Ok(std::env::var(TOKEN_VARIABLE).ok().map(Identity::Token))
    }
}
