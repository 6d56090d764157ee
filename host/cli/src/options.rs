//! Options shared by several commands. Each can also be set by an environment variable `WHISPER_HOST_*`, or in
//! `runtime-config.toml`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Options of commands that load an application.
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
    /// folder. Components use ID in `ai_models`; its default is `whisper`. May be repeated, or list several separated by commas.
    /// A name is looked up in the folder of --models, then in the hub's cache; if it is in neither, the model is fetched.
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

    /// Which of the model's files to use. auto: int8 on a CPU, fp16 on a GPU, if they exist.
    #[arg(long, value_enum, default_value_t = Precision::Auto, env = "WHISPER_HOST_PRECISION")]
    pub precision: Precision,

    /// The ONNX Runtime library. Its CUDA build is required for a GPU.
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

    /// Rows that the model decodes in one batch: windows of different requests, or hypotheses of a beam search.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 40,
        env = "WHISPER_HOST_MAX_BATCH"
    )]
    pub max_batch: usize,

    /// Transcriptions that are running or waiting for the model; further ones get 503.
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one, default_value_t = 256,
        env = "WHISPER_HOST_MAX_TRANSCRIPTIONS"
    )]
    pub max_transcriptions: usize,

    /// Concurrent component instances, over all components; further requests wait.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..), default_value_t = 64,
        env = "WHISPER_HOST_MAX_INSTANCES"
    )]
    pub max_instances: u32,

    /// Folder for persistent state: the store, and the cache of compiled components.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "state",
        env = "WHISPER_HOST_STATE_DIR"
    )]
    pub state_dir: PathBuf,

    /// Certificate authorities, as PEM, to trust for outbound requests in addition to Mozilla's list. May be repeated, or list several
    /// separated by commas. The file named by `SSL_CERT_FILE` is trusted, too.
    #[arg(
        long = "outbound-ca",
        value_name = "FILE",
        value_delimiter = ',',
        env = "WHISPER_HOST_OUTBOUND_CA"
    )]
    pub outbound_authorities: Vec<PathBuf>,

    /// Format of the log on standard error. Unset: text on a terminal, and JSON elsewhere.
    #[arg(long, value_enum, env = "WHISPER_HOST_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What to log: a level (error, warn, info, debug, trace), or directives like `info,component=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "WHISPER_HOST_LOG"
    )]
    pub log: String,
}

/// Option for the folder of models.
#[derive(Args)]
pub struct ModelsFolder {
    /// Folder of models by name, which takes precedence over the hub's cache.
    #[arg(
        long = "models",
        value_name = "DIR",
        default_value = ".tools/models",
        env = "WHISPER_HOST_MODELS",
        global = true
    )]
    pub folder: PathBuf,
}

/// A model, and the id that components use for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    /// A name, a repository or a folder.
    pub wanted: String,
}

impl FromStr for Model {
    type Err = String;

    /// Parses `ID=MODEL`, or the model alone. A path may contain a `=`, an id no `/`.
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

/// Default id of a model.
const MODEL_ID: &str = "whisper";

#[derive(Clone, Copy, ValueEnum)]
pub enum Device {
    /// The GPU if it is usable, otherwise the CPU.
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
    /// One JSON object per line.
    Json,
}

impl Common {
    /// Returns the format of the log.
    pub fn log_format(&self) -> telemetry::log::Format {
        match self.log_format {
            Some(LogFormat::Text) => telemetry::log::Format::Text,
            Some(LogFormat::Json) => telemetry::log::Format::Json,
            None => telemetry::log::Format::of_standard_error(),
        }
    }
}

/// Parses a limit, which must not be 0: nothing would ever be served.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(std::num::ParseIntError::to_string(&error)),
    }
}

/// Parses a duration that is not zero, such as `30s`.
///
/// # Errors
/// When the text is not a duration, or zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}
