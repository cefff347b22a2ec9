//! What a decommissioned board does to itself: its work ends, and nothing that it was given or has made
//! stays, but for the word why.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::store::IdentityDir;
use crate::instance::Runtime;

/// Each run has this long to end; what does not is killed.
const GRACE: Duration = Duration::from_secs(10);

pub async fn wipe(runtime: &Runtime, state: &Path, reason: &str) -> anyhow::Result<()> {
    let dir = IdentityDir::new(state);
    // First: a power cut from here on leaves a board that knows what it has to finish.
    dir.write_decommissioned(reason)?;
    for found in runtime.scan()? {
        if let Err(why) = runtime.stop(&found.instance, found.run, "TERM", GRACE).await {
            eprintln!("edge-agent: {} did not stop: {why}", found.instance);
        }
        let _ = runtime.remove(&found.instance, found.run).await;
    }
    data(state)?;
    dir.forget_key()
}

/// Also what is left to do when the power went in between.
pub fn data(state: &Path) -> anyhow::Result<()> {
    for name in ["desired", "artifacts", "volumes", "logs", "store", "secrets"] {
        match fs::remove_dir_all(state.join(name)) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why.into()),
            _ => {}
        }
    }
    Ok(())
}
