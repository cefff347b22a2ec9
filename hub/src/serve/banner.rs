//! What a person sees when a hub has started: where it is, who it is, and what to do next.

use std::fmt;
use std::path::Path;
use std::time::Duration;

pub struct Banner<'a> {
    pub url: &'a str,
    pub mqtt: &'a str,
    pub ca: &'a contract::Digest,
    pub encrypted: bool,
    pub data: &'a Path,
    pub fingerprint: &'a str,
    pub lineage: String,
    pub fresh: bool,
    pub took: Duration,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data.display();
        let how = if self.fresh { "new" } else { "opened" };
        writeln!(f, "Skerry hub {} is up after {} ms", env!("CARGO_PKG_VERSION"), self.took.as_millis())?;
        writeln!(f, "  API      {}   token: {data}/token", self.url)?;
        match self.data.join("agent-token").exists() {
            true => writeln!(f, "  agents   {}   password: {data}/agent-token", self.mqtt)?,
            // Somebody else's broker lets agents in as it likes.
            false => writeln!(f, "  agents   {}", self.mqtt)?,
        }
        writeln!(f, "  key      {}   agents pin: {data}/hub.pub", self.fingerprint)?;
        writeln!(f, "  CA       {}   certificate: {data}/ca.crt", self.ca)?;
        writeln!(f, "  store    {data}/store ({how}, lineage {})", self.lineage)?;
        match self.encrypted {
            true => write!(f, "next: hub join-token create, then on a board: edge-agent join <token>"),
            false => write!(
                f,
                "next: edge-agent run --hub-key {data}/hub.pub …, then: hub agents; hub apply -f <manifest>"
            ),
        }
    }
}
