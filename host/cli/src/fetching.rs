//! Models that the host is to run: found, or fetched.

use std::path::PathBuf;

use fetch::models::{self, Located, Store};

use crate::options::{Device, Precision};
use crate::progress;

/// The folder of a model that the host is to run, fetched if need be.
///
/// # Errors
/// When there is no such model, or it cannot be fetched.
pub async fn here(
    store: &Store,
    wanted: &str,
    precision: models::Precision,
) -> anyhow::Result<PathBuf> {
    match store.locate(wanted, precision).await? {
        Located::Here(folder) => Ok(folder),
        Located::Absent(repository) => {
            tracing::info!(
                "fetching {repository}, which is not here yet; `whisper-host models pull {wanted}` does so beforehand"
            );
            let folder = store
                .pull(&repository, precision, &*progress::bytes())
                .await?;
            tracing::info!("fetched {repository} into {}", folder.display());
            Ok(folder)
        }
    }
}

/// Which ONNX files suit the settings. Whether there is a GPU shows only once the model is loaded, so `auto` counts on none.
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
