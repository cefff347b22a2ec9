//! What is asked for, and which one instance is meant.

use std::collections::BTreeMap;

use contract::limits::EXEC_BYTES_MAX;
use contract::message::{CommandOp, CopyTo, Exec, FileCopy};
use contract::session::Size;
use contract::{AgentId, InstanceId, Name};
use hub_core::access::rights::{Kind, Verb};
use hub_core::view::InstanceView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::App;
use crate::api::auth::Asker;
use crate::api::error::ApiError;
use crate::api::workloads::Wanted;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ask {
    /// A name in `namespace` (default when absent), or `<namespace>/<name>`.
    pub workload: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Needed where several instances run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum What {
    Exec {
        command: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        #[serde(default)]
        user: Option<String>,
        #[serde(default)]
        workdir: Option<String>,
        /// With a terminal of this size.
        #[serde(default)]
        terminal: Option<Size>,
        /// Whether there is anything to read for it.
        #[serde(default)]
        input: bool,
    },
    /// A tar of `path` comes as output.
    CopyOut { path: String },
    /// A tar is given as input, and unpacked at `path`.
    CopyIn { path: String },
}

impl Ask {
    /// For the audit log: what was meant, and what for. Nothing of a command but its first word; the rest may
    /// hold secrets.
    pub(super) fn told(&self) -> String {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        let workload = match self.workload.contains('/') {
            true => self.workload.clone(),
            false => format!("{namespace}/{}", self.workload),
        };
        let what = match &self.what {
            What::Exec { command, .. } => format!("exec {}", command.first().map_or("", String::as_str)),
            What::CopyOut { path } => format!("copy {path} out"),
            What::CopyIn { path } => format!("copy in {path}"),
        };
        contract::limits::clip(&format!("{workload}: {what}"))
    }

    pub(super) async fn resolve(self, app: &App, asker: &Asker) -> Result<(AgentId, CommandOp), ApiError> {
        self.what.check()?;
        let wanted = Wanted {
            namespace: self.namespace.clone(),
            workload: Some(self.workload.clone()),
            selector: None,
            agent: self.agent.clone(),
        };
        let (filter, slot) = (wanted.filter()?, self.slot);
        let all = app.hub.look(move |core, now| core.instances(now, &filter)).await?;
        let sees = asker.sees(Verb::Exec, Kind::Workloads);
        let meant = |view: &InstanceView| {
            slot.is_none_or(|slot| slot == view.instance.slot) && sees.has(&view.instance.workload.namespace)
        };
        let all: Vec<_> = all.into_iter().filter(meant).collect();
        let one = choose(&self, all)?;
        Ok((one.agent, self.what.op(one.instance)))
    }
}

/// What is leaving counts only where nothing else is meant.
fn choose(ask: &Ask, mut all: Vec<InstanceView>) -> Result<InstanceView, ApiError> {
    if all.iter().any(|view| !view.leaving) {
        all.retain(|view| !view.leaving);
    }
    match all.len() {
        0 => Err(ApiError::not_found(format!(
            "no instance of {} matches; 'hub get instances' lists them",
            ask.workload
        ))),
        1 => Ok(all.remove(0)),
        n => {
            let line = |view: &InstanceView| {
                let InstanceId { workload, slot } = &view.instance;
                format!("  {}/{slot} @{}  {}", short(workload, ask), view.agent, view.state)
            };
            let lines: Vec<_> = all.iter().take(LISTED_MAX).map(line).collect();
            let more = n.saturating_sub(LISTED_MAX);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            let message = format!(
                "{n} instances run; say which, by its slot or its agent:\n{}{more}",
                lines.join("\n")
            );
            Err(ApiError::invalid(message))
        }
    }
}

const LISTED_MAX: usize = 20;

/// As it may be typed.
fn short(workload: &contract::WorkloadKey, ask: &Ask) -> String {
    let default: Option<Name> = "default".parse().ok();
    let namespace = ask.namespace.as_ref().and_then(|n| n.parse().ok()).or(default);
    match Some(&workload.namespace) == namespace.as_ref() {
        true => workload.name.to_string(),
        false => workload.to_string(),
    }
}

impl What {
    fn check(&self) -> Result<(), ApiError> {
        match self {
            What::Exec { command, .. } if command.first().is_none_or(String::is_empty) => {
                Err(ApiError::invalid("what.exec.command: there is none; say what to run"))
            }
            What::Exec { command, env, .. } => {
                let bytes = command.iter().map(String::len).sum::<usize>()
                    + env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
                match bytes > EXEC_BYTES_MAX {
                    true => Err(ApiError::invalid(format!(
                        "what.exec: command and environment have {bytes} bytes; at most {EXEC_BYTES_MAX}: \
                         give it what is long as input"
                    ))),
                    false => Ok(()),
                }
            }
            What::CopyOut { path } | What::CopyIn { path } if !path.starts_with('/') => {
                Err(ApiError::invalid(format!("what.path: '{path}' is not absolute, such as /etc/hosts")))
            }
            _ => Ok(()),
        }
    }

    fn op(self, instance: InstanceId) -> CommandOp {
        match self {
            What::Exec { command, env, user, workdir, terminal, input } => {
                CommandOp::Exec(Exec { instance, args: command, env, user, workdir, terminal, input })
            }
            What::CopyOut { path } => CommandOp::Copy(FileCopy { instance, path, to: CopyTo::Operator }),
            What::CopyIn { path } => CommandOp::Copy(FileCopy { instance, path, to: CopyTo::Container }),
        }
    }
}
