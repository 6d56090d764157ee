//! The command line. Every flag can also be set as an environment variable `WHISPER_HOST_*`, or in `runtime-config.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Serve WebAssembly components that work with speech.
///
/// Settings are taken from flags, then from the environment (WHISPER_HOST_*), then from runtime-config.toml, then from
/// the defaults shown.
#[derive(Parser)]
#[command(name = "whisper-host", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve an application.
    Up(Up),
    /// Validate a manifest and all of its components without serving, and print what each may use.
    Check(Check),
    /// Transcribe files, without a server.
    Transcribe(Transcribe),
    /// Deploy a component to a running host: it is served a moment later.
    Deploy(Deploy),
    /// List what a running host serves, with its figures.
    List(Remote),
    /// Show one component of a running host, with its revisions.
    Show(Named),
    /// Serve an earlier revision of a deployed component.
    Rollback(Rollback),
    /// Take a deployed component out.
    Remove(Named),
    /// Print what a component wrote to its standard output and error.
    Logs(Logs),
    /// Begin a handler of your own: a project that builds as it is.
    New(New),
    /// Publish a component in an OCI registry.
    Push(Push),
    /// List, fetch and remove models.
    Models(Models),
    /// Print the JSON schema of manifests, for editors.
    Schema,
    /// Compile the component on standard input: how the host calls itself.
    #[command(name = runtime::COMPILE_COMPONENT, hide = true)]
    CompileComponent {
        /// Functions that were compiled before.
        functions: PathBuf,
    },
}

/// What every command needs to load an application.
#[derive(Args)]
pub struct Common {
    /// The application's manifest.
    #[arg(
        short = 'f',
        long = "from",
        value_name = "FILE",
        default_value = "spin.toml",
        env = "WHISPER_HOST_FROM"
    )]
    pub manifest: PathBuf,

    /// A Whisper model: a name (`base`, `tiny.en`, …), a repository of the Hugging Face hub (`openai/whisper-small`), or a
    /// folder. ID is what components ask for in `ai_models`; without it, `whisper`. May be given again, or several with
    /// commas between. A name is looked for in the folder of --models, then in the hub's cache; what is in neither is
    /// fetched.
    #[arg(
        long,
        value_name = "[ID=]MODEL",
        value_delimiter = ',',
        default_value = "base",
        env = "WHISPER_HOST_MODEL"
    )]
    pub model: Vec<Model>,

    #[command(flatten)]
    pub models: ModelsFolder,

    /// Where the model runs.
    #[arg(long, value_enum, default_value_t = Device::Auto, env = "WHISPER_HOST_DEVICE")]
    pub device: Device,

    /// Which of the model's files to take. auto: int8 on a CPU, fp16 on a GPU, where they exist.
    #[arg(long, value_enum, default_value_t = Precision::Auto, env = "WHISPER_HOST_PRECISION")]
    pub precision: Precision,

    /// The ONNX Runtime library. The CUDA build of it makes a GPU usable.
    #[arg(
        long,
        value_name = "FILE",
        default_value = ".tools/onnxruntime/libonnxruntime.so",
        env = "WHISPER_HOST_ONNXRUNTIME"
    )]
    pub onnxruntime: PathBuf,

    /// Threads of the model. 0: one per processor core.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        env = "WHISPER_HOST_INFERENCE_THREADS"
    )]
    pub inference_threads: usize,

    /// Rows that the model decodes at once: windows of different requests, or hypotheses of a beam search.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 40,
        env = "WHISPER_HOST_MAX_BATCH"
    )]
    pub max_batch: usize,

    /// Transcriptions that are under way or wait for the model; one more is answered 503.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 256,
        env = "WHISPER_HOST_MAX_TRANSCRIPTIONS"
    )]
    pub max_transcriptions: usize,

    /// Component instances at once, over all components; further requests wait.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..), default_value_t = 64,
        env = "WHISPER_HOST_MAX_INSTANCES"
    )]
    pub max_instances: u32,

    /// Folder for what must outlive the process: the store, and the cache of compiled components.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "state",
        env = "WHISPER_HOST_STATE_DIR"
    )]
    pub state_dir: PathBuf,

    /// Certificate authorities, as PEM, that servers of outbound requests may prove themselves by beside those of Mozilla's list. May be
    /// given again, or several with commas between. The file that `SSL_CERT_FILE` names is one of them.
    #[arg(
        long = "outbound-ca",
        value_name = "FILE",
        value_delimiter = ',',
        env = "WHISPER_HOST_OUTBOUND_CA"
    )]
    pub outbound_authorities: Vec<PathBuf>,

    /// Form of the log, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "WHISPER_HOST_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// What to log: a level (error, warn, info, debug, trace), or directives like `info,component=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "WHISPER_HOST_LOG"
    )]
    pub log: String,
}

/// Where models lie by their names.
#[derive(Args)]
pub struct ModelsFolder {
    /// Folder of models by their names, which goes before the hub's cache.
    #[arg(
        long = "models",
        value_name = "DIR",
        default_value = ".tools/models",
        env = "WHISPER_HOST_MODELS",
        global = true
    )]
    pub folder: PathBuf,
}

/// A model, and the id that components ask for it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    /// A name, a repository or a folder.
    pub wanted: String,
}

impl FromStr for Model {
    type Err = String;

    /// `ID=MODEL`, or the model alone. A path may hold a `=`, an id no `/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, wanted) = match text.split_once('=') {
            Some((id, wanted)) if !id.contains(['/', '.']) => (id, wanted),
            _ => (MODEL_ID, text),
        };
        if id.is_empty() || wanted.is_empty() {
            return Err("must be a model, or ID=MODEL".into());
        }
        Ok(Self {
            id: id.to_owned(),
            wanted: wanted.to_owned(),
        })
    }
}

/// The id of a model that is given without one.
const MODEL_ID: &str = "whisper";

#[derive(Args)]
pub struct Models {
    #[command(flatten)]
    pub models: ModelsFolder,

    #[command(subcommand)]
    pub command: ModelsCommand,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// List the names that can be given, with what is here already.
    List {
        /// Print one JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model into the hub's cache, or bring it up to date.
    ///
    /// HF_ENDPOINT names another hub, HF_TOKEN a token, HF_HUB_CACHE another folder for the cache.
    Pull {
        /// A name, or a repository of the hub.
        #[arg(value_name = "MODEL")]
        wanted: String,

        /// Which of a repository's ONNX files to fetch. auto: int8, if there is.
        #[arg(long, value_enum, default_value_t = Precision::Auto)]
        precision: Precision,
    },
    /// Remove a model from the hub's cache.
    Remove {
        /// A name, or a repository of the hub.
        #[arg(value_name = "MODEL")]
        wanted: String,
    },
    /// Print the folder of a model that is here.
    Path {
        /// A name, or a repository of the hub.
        #[arg(value_name = "MODEL")]
        wanted: String,
    },
}

#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    pub common: Common,

    /// Load the application again whenever the manifest or a file that it names has changed. SIGHUP does it once.
    #[arg(long, env = "WHISPER_HOST_WATCH")]
    pub watch: bool,

    /// Address to serve on.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8000",
        env = "WHISPER_HOST_LISTEN"
    )]
    pub listen: SocketAddr,

    /// Address of the admin interface: deploying, listing, logs. Anything but loopback needs a token.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8001",
        env = "WHISPER_HOST_ADMIN_LISTEN"
    )]
    pub admin_listen: SocketAddr,

    /// Token that the admin interface asks for.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WHISPER_HOST_ADMIN_TOKEN",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_token: Option<String>,

    /// Connections open at once. Where one more comes, an idle one is closed; if none is, the new one waits.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 1024,
        env = "WHISPER_HOST_MAX_CONNECTIONS"
    )]
    pub max_connections: usize,

    /// Connections of one client, an IPv4 address or a /64 of IPv6. Where one more comes, one of them that is idle is closed;
    /// if none is, the new one.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 512,
        env = "WHISPER_HOST_MAX_CONNECTIONS_PER_CLIENT"
    )]
    pub max_connections_per_client: usize,

    /// Requests that one client, an IPv4 address or a /64 of IPv6, may have under way; one more is answered 429.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 256,
        env = "WHISPER_HOST_MAX_REQUESTS_PER_CLIENT"
    )]
    pub max_requests_per_client: usize,

    /// How long a client may take to send the headers of a request, or leave its connection idle.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration, env = "WHISPER_HOST_HEADER_TIMEOUT")]
    pub header_timeout: Duration,

    /// How long a call counts for /stats, such as `90d`. Older ones are removed, within a minute. Unset: for ever.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, env = "WHISPER_HOST_STATS_RETENTION")]
    pub stats_retention: Option<Duration>,

    /// How long requests under way may go on after SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration, env = "WHISPER_HOST_SHUTDOWN_TIMEOUT")]
    pub shutdown_timeout: Duration,
}

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    pub common: Common,

    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Transcribe {
    #[command(flatten)]
    pub common: Common,

    /// Audio files.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Language of the speech, e.g. `en`. Without it the model detects the language.
    #[arg(long, value_name = "CODE")]
    pub language: Option<String>,

    /// What to do with the speech: `transcribe`, or `translate` into English.
    #[arg(long, value_name = "TASK", default_value = "transcribe")]
    pub task: String,

    /// Text that precedes the recording, for spelling and style.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,

    /// Hypotheses of the beam search; 1 is greedy decoding. Without it, as many as the model's own settings ask for.
    #[arg(long, value_name = "N")]
    pub beam_size: Option<u32>,

    /// Print the times of segments.
    #[arg(long)]
    pub timestamps: bool,

    /// The application's route that transcribes.
    #[arg(long, value_name = "PATH", default_value = "/analyze")]
    pub route: String,

    /// Print one JSON object a line: `file`, and the answer or `error`.
    #[arg(long)]
    pub json: bool,
}

/// Which running host, and the form of the answer.
#[derive(Args)]
pub struct Remote {
    /// Admin interface of the running host.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8001",
        env = "WHISPER_HOST_ADMIN"
    )]
    pub admin: String,

    /// Token of the admin interface.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "WHISPER_HOST_ADMIN_TOKEN",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub admin_token: Option<String>,

    /// Print the host's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Named {
    #[command(flatten)]
    pub remote: Remote,

    /// The component's id.
    pub id: String,
}

#[derive(Args)]
pub struct Deploy {
    #[command(flatten)]
    pub remote: Remote,

    /// The component: a file, or a reference like `oci://registry.example/name:1.0.0`.
    #[arg(value_name = "FILE.wasm")]
    pub source: String,

    /// Path to serve: segments may be `:name`, and `/...` at the end stands for everything below.
    #[arg(long, value_name = "ROUTE")]
    pub route: String,

    /// The component's id. Without it, the name of the file or of the repository.
    #[arg(long)]
    pub id: Option<String>,

    /// A server it may send requests to, as `scheme://host:port`. May be given again.
    #[arg(long, value_name = "HOST")]
    pub allow_host: Vec<String>,

    /// A model it may use, e.g. `whisper`. May be given again.
    #[arg(long, value_name = "MODEL")]
    pub ai_model: Vec<String>,

    /// An environment variable. May be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,

    /// Grant the time-series store.
    #[arg(long)]
    pub timeseries: bool,

    /// Which component of the application answers an import: `speech:pipeline/frontend=audio`. May be given again.
    #[arg(long, value_name = "IMPORT=ID")]
    pub dependency: Vec<String>,

    /// A path that must answer with a status below 500 before the component is served.
    #[arg(long, value_name = "PATH")]
    pub health: Option<String>,
}

#[derive(Args)]
pub struct New {
    /// What it is called: lower-case letters, digits and `-`.
    pub name: String,

    /// The language to write it in.
    #[arg(long, value_enum)]
    pub lang: Language,

    /// Folder to make. Without it, one of that name in the working folder.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Language {
    Rust,
    Javascript,
    Python,
}

#[derive(Args)]
pub struct Push {
    /// The component.
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,

    /// Where to: `oci://registry.example/name:1.0.0`. Credentials are those of `docker login`; a registry on this machine
    /// needs no TLS.
    #[arg(value_name = "REFERENCE")]
    pub reference: String,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Rollback {
    #[command(flatten)]
    pub named: Named,

    /// The revision to serve. Without it, the one before the present one.
    pub revision: Option<u32>,
}

#[derive(Args)]
pub struct Logs {
    #[command(flatten)]
    pub named: Named,

    /// Go on with what it prints from now on.
    #[arg(long)]
    pub follow: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Device {
    /// The GPU where it can be used, else the CPU.
    Auto,
    Cpu,
    Cuda,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Precision {
    Auto,
    Fp32,
    Fp16,
    Int8,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    Text,
    /// One JSON object a line.
    Json,
}

/// A number of places: with none, nothing would ever be served.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(std::num::ParseIntError::to_string(&error)),
    }
}
