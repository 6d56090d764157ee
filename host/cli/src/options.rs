//! Options that several commands have. Every one can also be set as an environment variable `WHISPER_HOST_*`, or in
//! `runtime-config.toml`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

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

impl From<LogFormat> for telemetry::log::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

/// A number of places: with none, nothing would ever be served.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(std::num::ParseIntError::to_string(&error)),
    }
}
