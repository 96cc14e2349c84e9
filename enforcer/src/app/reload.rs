//! Policy, loaded anew when asked. A bundle that is broken changes nothing, and says so loudly.

use crate::metrics::Metrics;
use crate::policy::Bundle;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Loads the bundle, off the threads that carry bytes.
pub(super) async fn load(dir: &Path, mask_key: &[u8]) -> anyhow::Result<Bundle> {
    let dir = dir.to_owned();
    let loaded = tokio::task::spawn_blocking(move || Bundle::load(&dir)).await?;
    let bundle = loaded?.with_mask_key(mask_key)?;
    for problem in bundle.warnings().iter() {
        warn!(file = %problem.file, line = problem.line, help = %problem.help, "{}", problem.what);
    }
    Ok(bundle)
}

/// Puts a new bundle in force, or keeps the old one.
pub(super) async fn reload(
    dir: &Path,
    mask_key: &[u8],
    policy: &watch::Sender<Arc<Bundle>>,
    metrics: &Metrics,
) {
    match load(dir, mask_key).await {
        Ok(bundle) => {
            let version = bundle.version().to_owned();
            // Every operation that runs or waits is judged again.
            let before = policy.send_replace(Arc::new(bundle));
            metrics.reloaded(true);
            info!(target: "audit", before = before.version(), policy = %version, "policy reloaded");
        }
        Err(broken) => {
            metrics.reloaded(false);
            error!(
                target: "audit",
                policy = policy.borrow().version(),
                "the new policy is broken and was NOT taken; the old one stays in force:\n{broken:#}"
            );
        }
    }
}
