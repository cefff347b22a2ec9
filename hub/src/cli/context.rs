//! Which hub is meant, and the token for it. In this order: flags, environment, the chosen context,
//! the hub of this machine.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::exit::{Code, Done, Failure};

const DEFAULT_HUB: &str = "http://127.0.0.1:7711";

#[derive(Debug, Clone, Args)]
pub struct HubArgs {
    /// The hub's address; also SKERRY_HUB
    #[arg(long, global = true, value_name = "URL", env = "SKERRY_HUB", help_heading = "Which hub")]
    pub hub: Option<String>,
    /// The file with the operator's token; also SKERRY_TOKEN_FILE
    #[arg(long, global = true, value_name = "FILE", env = "SKERRY_TOKEN_FILE", help_heading = "Which hub")]
    pub token_file: Option<PathBuf>,
    /// The hub's CA certificate, for https://; also SKERRY_CA. 'ca.crt' beside the token when left out
    #[arg(long, global = true, value_name = "FILE", env = "SKERRY_CA", help_heading = "Which hub")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Context {
    pub hub: String,
    /// Who said so, for the message when nobody is there.
    pub hub_from: &'static str,
    token_file: PathBuf,
    ca: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Config {
    #[serde(default)]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    hub: String,
    token_file: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
}

impl Context {
    pub fn find(args: &HubArgs) -> Done<Context> {
        let config = load()?;
        let entry = config.current.as_ref().and_then(|name| config.contexts.get(name));
        let (hub, hub_from) = match (&args.hub, entry) {
            (Some(hub), _) => (hub.clone(), "from --hub or SKERRY_HUB"),
            (None, Some(entry)) => (entry.hub.clone(), "from the current context"),
            (None, None) => match running_here() {
                Some(hub) => (hub, "the hub of this machine"),
                None => (DEFAULT_HUB.to_string(), "the default"),
            },
        };
        if !hub.starts_with("http://") && !hub.starts_with("https://") {
            return Err(Failure::usage(format!("'{hub}' is not a hub's address: write https://host:port")));
        }
        let token_file = match (&args.token_file, entry) {
            (Some(file), _) => file.clone(),
            (None, Some(entry)) if args.hub.is_none() => entry.token_file.clone(),
            _ => PathBuf::from(crate::serve::args::DEFAULT_DATA).join("token"),
        };
        let beside = || token_file.with_file_name(crate::trust::ca::PUBLIC_FILE);
        let ca = args.ca.clone().or_else(|| entry.filter(|_| args.hub.is_none())?.ca.clone());
        let ca = ca.unwrap_or_else(beside);
        Ok(Context { hub, hub_from, token_file, ca })
    }

    /// What the hub's certificate is checked against, if it has one to show.
    pub fn ca(&self) -> Done<Option<String>> {
        if !self.hub.starts_with("https://") {
            return Ok(None);
        }
        let (path, read) = (self.ca.display(), std::fs::read_to_string(&self.ca));
        read.map(Some).map_err(|why| {
            let text = format!(
                "cannot read the hub's CA certificate {path}: {why}\nIt lies as ca.crt in the hub's data directory; name a copy with --ca, SKERRY_CA or 'hub context set'."
            );
            Failure::new(Code::Unreachable, text)
        })
    }

    pub fn token(&self) -> Done<String> {
        let path = self.token_file.display();
        let text = std::fs::read_to_string(&self.token_file).map_err(|why| {
            let text = format!(
                "cannot read the token file {path}: {why}\nA hub writes it into its data directory at the first start; name it with --token-file, SKERRY_TOKEN_FILE or 'hub context set'."
            );
            Failure::new(Code::Unreachable, text)
        })?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::new(Code::Unreachable, format!("{path} holds no token")));
        }
        Ok(token.to_string())
    }
}

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the contexts; a star marks the current one
    Ls,
    /// Make a context the current one
    Use { name: String },
    /// Add or change a context, and use it
    #[command(
        after_help = "Example:\n  hub context set plant --hub http://127.0.0.1:7711 --token-file /var/lib/skerry/hub/token"
    )]
    Set { name: String },
    /// Remove a context
    Rm { name: String },
    /// What is used now, and why
    Show,
}

pub fn main(command: &ContextCommand, args: &HubArgs) -> Done {
    let mut config = load()?;
    match command {
        ContextCommand::Ls => {
            for (name, entry) in &config.contexts {
                let mark = if config.current.as_ref() == Some(name) { '*' } else { ' ' };
                say!("{mark} {name}  {}  {}", entry.hub, entry.token_file.display());
            }
            Ok(())
        }
        ContextCommand::Use { name } => {
            if !config.contexts.contains_key(name) {
                let known = config.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(Failure::new(Code::NotFound, format!("no context '{name}'; there are: {known}")));
            }
            config.current = Some(name.clone());
            save(&config)
        }
        ContextCommand::Set { name } => {
            let found = Context::find(args)?;
            let token_file = std::path::absolute(&found.token_file)?;
            let ca = found.ca.exists().then(|| std::path::absolute(&found.ca)).transpose()?;
            config.contexts.insert(name.clone(), Entry { hub: found.hub, token_file, ca });
            config.current = Some(name.clone());
            save(&config)
        }
        ContextCommand::Rm { name } => {
            if config.contexts.remove(name).is_none() {
                return Err(Failure::new(Code::NotFound, format!("no context '{name}'")));
            }
            config.current.take_if(|current| current == name);
            save(&config)
        }
        ContextCommand::Show => {
            let found = Context::find(args)?;
            say!(
                "hub         {} ({})\ntoken file  {}",
                found.hub,
                found.hub_from,
                found.token_file.display()
            );
            Ok(())
        }
    }
}

/// The address that the hub of this machine noted.
fn running_here() -> Option<String> {
    let text =
        std::fs::read_to_string(PathBuf::from(crate::serve::args::DEFAULT_DATA).join("hub.json")).ok()?;
    Some(serde_json::from_str::<serde_json::Value>(&text).ok()?["url"].as_str()?.to_string())
}

fn path() -> Done<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    let base = base.ok_or_else(|| {
        Failure::usage("neither HOME nor XDG_CONFIG_HOME is set: name the hub with --hub and --token-file")
    })?;
    Ok(base.join("skerry").join("contexts.json"))
}

fn load() -> Done<Config> {
    let Ok(path) = path() else { return Ok(Config::default()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|why| {
            Failure::usage(format!("{} cannot be read: {why}; mend or remove it", path.display()))
        }),
        Err(_) => Ok(Config::default()),
    }
}

fn save(config: &Config) -> Done {
    let path = path()?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("tmp");
    let mut file =
        std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(serde_json::to_string_pretty(config).unwrap_or_default().as_bytes())?;
    Ok(std::fs::rename(&temporary, &path)?)
}
