//! Where the passphrase of the Secrets' key comes from.

use std::path::PathBuf;

use anyhow::Context as _;
use zeroize::Zeroizing;

#[derive(Clone, clap::Args)]
pub struct SecretsArgs {
    /// A file with the passphrase that the key of the Secrets is encrypted with; given at the first start,
    /// it is needed at each.
    #[arg(long, value_name = "FILE", conflicts_with = "secrets_passphrase")]
    secrets_passphrase_file: Option<PathBuf>,
    /// The passphrase itself; from the environment only, for arguments are read by everybody.
    #[arg(long, hide = true, env = "SKERRY_SECRETS_PASSPHRASE", hide_env_values = true)]
    secrets_passphrase: Option<String>,
}

/// Never the passphrase.
impl std::fmt::Debug for SecretsArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretsArgs").field("file", &self.secrets_passphrase_file).finish_non_exhaustive()
    }
}

impl SecretsArgs {
    pub fn passphrase(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let text = match (&self.secrets_passphrase_file, &self.secrets_passphrase) {
            (None, None) => return Ok(None),
            (Some(file), _) => {
                let read = std::fs::read_to_string(file);
                Zeroizing::new(read.with_context(|| format!("--secrets-passphrase-file {}", file.display()))?)
            }
            (None, Some(text)) => Zeroizing::new(text.clone()),
        };
        let text = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_string());
        anyhow::ensure!(text.len() >= 8, "the passphrase of the Secrets is shorter than 8 characters");
        Ok(Some(text))
    }
}
