//! Which hub is meant, and the token for it. In this order: flags, environment, the chosen context,
//! the hub of this machine. Contexts are kept in one file that nobody else may read.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

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
    /// One of 'hub context list' instead of the current one; also SKERRY_CONTEXT
    #[arg(long, global = true, value_name = "NAME", env = "SKERRY_CONTEXT", help_heading = "Which hub")]
    pub context: Option<String>,
    /// The hub's CA certificate, for https://; also SKERRY_CA. 'ca.crt' beside the token when left out
    #[arg(long, global = true, value_name = "FILE", env = "SKERRY_CA", help_heading = "Which hub")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Context {
    pub hub: String,
    /// Who said so, for the message when nobody is there.
    pub hub_from: &'static str,
    token: Secret,
    ca: Authority,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Secret {
    TokenFile(PathBuf),
    Token(String),
}

/// Who may say that a certificate is the hub's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Authority {
    Ca(PathBuf),
    CaPem(String),
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
    #[serde(flatten)]
    token: Secret,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    ca: Option<Authority>,
}

impl Context {
    pub fn find(args: &HubArgs) -> Done<Context> {
        let config = load()?;
        let entry = match (&args.context, &config.current) {
            (Some(name), _) => Some(known(&config, name)?),
            (None, current) => current.as_ref().and_then(|name| config.contexts.get(name)),
        };
        let (hub, hub_from) = match (&args.hub, entry) {
            (Some(hub), _) => (hub.clone(), "from --hub or SKERRY_HUB"),
            (None, Some(entry)) => (entry.hub.clone(), "from the current context"),
            (None, None) => match running_here() {
                Some(hub) => (hub, "the hub of this machine"),
                None => (DEFAULT_HUB.to_string(), "the default"),
            },
        };
        // A context's token goes to its own hub only, or a wrong --hub would give it away.
        let entry = entry.filter(|entry| args.hub.as_ref().is_none_or(|hub| *hub == entry.hub));
        let token = match (&args.token_file, env_token(), entry) {
            (Some(file), _, _) if !from_env(args) => Secret::TokenFile(file.clone()),
            (_, Some(token), _) => Secret::Token(checked_token(&token, "SKERRY_TOKEN")?),
            (Some(file), None, _) => Secret::TokenFile(file.clone()),
            (None, None, Some(entry)) => entry.token.clone(),
            (None, None, None) => {
                Secret::TokenFile(PathBuf::from(crate::serve::args::DEFAULT_DATA).join("token"))
            }
        };
        let beside = || match &token {
            Secret::TokenFile(file) => file.with_file_name(crate::trust::ca::PUBLIC_FILE),
            Secret::Token(_) => {
                PathBuf::from(crate::serve::args::DEFAULT_DATA).join(crate::trust::ca::PUBLIC_FILE)
            }
        };
        let ca = args.ca.clone().map(Authority::Ca).or_else(|| entry?.ca.clone());
        let ca = ca.unwrap_or_else(|| Authority::Ca(beside()));
        Ok(Context { hub: checked_url(hub)?, hub_from, token, ca })
    }

    /// As `hub login` was told.
    pub fn of(url: &str, token: String, ca: Option<String>) -> Done<Context> {
        let ca = ca.map_or_else(|| Authority::Ca(PathBuf::new()), Authority::CaPem);
        let hub = checked_url(url.to_string())?;
        Ok(Context { hub, hub_from: "as given", token: Secret::Token(token), ca })
    }

    /// What the hub's certificate is checked against, if it has one to show.
    pub fn ca(&self) -> Done<Option<String>> {
        if !self.hub.starts_with("https://") {
            return Ok(None);
        }
        let path = match &self.ca {
            Authority::CaPem(pem) => return Ok(Some(pem.clone())),
            Authority::Ca(path) => path,
        };
        std::fs::read_to_string(path).map(Some).map_err(|why| {
            let text = format!(
                "cannot read the hub's CA certificate {}: {why}\nIt lies as ca.crt in the hub's data directory; name a copy with --ca, SKERRY_CA or 'hub context set', or let 'hub login' fetch it.",
                path.display()
            );
            Failure::new(Code::Unreachable, text)
        })
    }

    pub fn token(&self) -> Done<String> {
        let file = match &self.token {
            Secret::Token(token) => return Ok(token.clone()),
            Secret::TokenFile(file) => file,
        };
        let path = file.display();
        let text = std::fs::read_to_string(file).map_err(|why| {
            let text = format!(
                "cannot read the token file {path}: {why}\nA hub writes it into its data directory at the first start; name it with --token-file or SKERRY_TOKEN_FILE, or give a token to 'hub login' or SKERRY_TOKEN."
            );
            Failure::new(Code::Unreachable, text)
        })?;
        checked_token(text.trim(), &path.to_string())
    }
}

/// Flags go before the environment, and clap tells them not apart.
pub fn from_env(args: &HubArgs) -> bool {
    args.token_file.as_deref() == std::env::var_os("SKERRY_TOKEN_FILE").as_deref().map(Path::new)
}

pub fn env_token() -> Option<String> {
    std::env::var("SKERRY_TOKEN").ok().map(|token| token.trim().to_string()).filter(|token| !token.is_empty())
}

pub fn checked_token(token: &str, from: &str) -> Done<String> {
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::new(Code::Unreachable, format!("{from} holds no token")));
    }
    Ok(token.to_string())
}

fn checked_url(hub: String) -> Done<String> {
    if hub.starts_with("http://") || hub.starts_with("https://") {
        return Ok(hub);
    }
    Err(Failure::usage(format!("'{hub}' is not a hub's address: write https://host:port")))
}

fn known<'a>(config: &'a Config, name: &str) -> Done<&'a Entry> {
    config.contexts.get(name).ok_or_else(|| {
        let known = config.contexts.keys().cloned().collect::<Vec<_>>().join(", ");
        Failure::new(Code::NotFound, format!("no context '{name}'; there are: {known}"))
    })
}

/// What `hub login` found good; it is the current context then.
pub fn keep(name: &str, context: &Context, ca: Option<String>) -> Done {
    let mut config = load()?;
    let entry =
        Entry { hub: context.hub.clone(), token: context.token.clone(), ca: ca.map(Authority::CaPem) };
    config.contexts.insert(name.to_string(), entry);
    config.current = Some(name.to_string());
    save(&config)
}

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the contexts; a star marks the current one
    #[command(visible_alias = "list")]
    Ls,
    /// Make a context the current one
    Use { name: String },
    /// Add or change a context, and use it
    #[command(
        after_help = "Example:\n  hub context set plant --hub http://127.0.0.1:7711 --token-file /var/lib/skerry/hub/token"
    )]
    Set { name: String },
    /// Remove a context, and the token that it keeps
    #[command(visible_alias = "delete")]
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
                say!("{mark} {name}  {}  {}", entry.hub, entry.token.shown());
            }
            Ok(())
        }
        ContextCommand::Use { name } => {
            known(&config, name)?;
            config.current = Some(name.clone());
            save(&config)
        }
        ContextCommand::Set { name } => {
            let found = Context::find(args)?;
            let token = match found.token {
                Secret::TokenFile(file) => Secret::TokenFile(std::path::absolute(&file)?),
                token => token,
            };
            let ca = match found.ca {
                Authority::Ca(path) if !path.exists() => None,
                Authority::Ca(path) => Some(Authority::Ca(std::path::absolute(&path)?)),
                pem => Some(pem),
            };
            config.contexts.insert(name.clone(), Entry { hub: found.hub, token, ca });
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
            say!("hub    {} ({})\ntoken  {}", found.hub, found.hub_from, found.token.shown());
            Ok(())
        }
    }
}

impl Secret {
    /// Of a token, whose it is; never the token.
    fn shown(&self) -> String {
        match self {
            Secret::TokenFile(file) => file.display().to_string(),
            Secret::Token(token) => {
                let name = token.strip_prefix("skerry_").and_then(|rest| Some(rest.split_once('_')?.0));
                format!("kept here, of {}", name.unwrap_or("the hub's first"))
            }
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
    if let Ok(metadata) = path.metadata()
        && metadata.mode() & 0o077 != 0
    {
        let mode = metadata.mode() & 0o777;
        let path = path.display();
        return Err(Failure::usage(format!(
            "{path} holds tokens and may be read by others (mode {mode:o}): chmod 600 {path}"
        )));
    }
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
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // One that is left over may be somebody else's, or open to others.
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(serde_json::to_string_pretty(config).unwrap_or_default().as_bytes())?;
    file.sync_all()?;
    Ok(std::fs::rename(&temporary, &path)?)
}
