//! Locates or fetches the models that the host runs.

use std::path::PathBuf;

use fetch::models::{self, Located, Store};

use crate::options::{Device, Precision};
use crate::progress;

/// Returns the folder of a model, fetching it if necessary.
///
/// # Errors
/// When the model does not exist or cannot be fetched.
pub async fn locate_or_fetch(
    store: &Store,
    wanted: &str,
    precision: models::Precision,
) -> anyhow::Result<PathBuf> {
    match store.locate(wanted, precision).await? {
        Located::Here(folder) => Ok(folder),
        Located::Absent(repository) => {
            tracing::info!(
                "fetching {repository}, which is not here yet; `whisper-host models pull {wanted}` fetches it in advance"
            );
            let folder = store
                .pull(&repository, precision, &*progress::bytes())
                .await?;
            tracing::info!("fetched {repository} into {}", folder.display());
            Ok(folder)
        }
    }
}

/// Returns which ONNX files suit the settings. Whether there is a GPU is known only once the model is loaded, so `auto` assumes none.
pub fn precision(precision: Precision, device: Device) -> models::Precision {
    match precision {
        Precision::Auto => models::Precision::Auto {
            gpu: matches!(device, Device::Cuda),
        },
        Precision::Fp32 => models::Precision::Fp32,
        Precision::Fp16 => models::Precision::Fp16,
        Precision::Int8 => models::Precision::Int8,
    }
}
