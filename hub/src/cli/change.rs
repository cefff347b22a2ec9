//! The commands that change one thing: delete, scale, restart; and wait, which only looks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use contract::manifest::Object;
use contract::quantity::Duration;
use contract::{DataId, WorkloadKey};
use hub_core::api::Answer;
use hub_core::view::WorkloadView;
use serde::Deserialize;

use super::client::{Client, escape, query};
use super::exit::{Done, Failure};
use super::files;
use super::kinds::{self, Kind, key};
use super::progress::{self, Goal};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hub delete workload press-guard\n  hub delete -f press.yaml\n  hub delete workloads -l app=press\n  hub delete agent board-7      forget a board that is gone for good"
)]
pub struct DeleteArgs {
    /// workload, config, secret, agent or artifact
    kind: Option<Kind>,
    names: Vec<String>,
    #[arg(short, long)]
    namespace: Option<String>,
    /// What is in these files
    #[arg(short, long = "file", value_name = "PATH", conflicts_with_all = ["kind", "selector"])]
    files: Vec<PathBuf>,
    /// The workloads with these labels
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Do not wait until it is gone
    #[arg(long)]
    no_wait: bool,
    #[arg(long, default_value = "1m")]
    timeout: Duration,
}

#[derive(Deserialize)]
struct Items {
    items: Vec<WorkloadView>,
}

pub fn delete(client: Client, args: &DeleteArgs) -> Done {
    match args.kind {
        Some(Kind::Agents) => {
            return each(args, |name| client.delete(&format!("/v1/agents/{}", escape(name))));
        }
        Some(Kind::Artifacts | Kind::Images) => {
            return each(args, |name| client.delete(&format!("/v1/artifacts/{}", escape(name))));
        }
        Some(kind) if let Some(kind) = kind.of_data() => {
            let path =
                |name: &str| key(name, args.namespace.as_deref()).map(|key| kinds::data_path(kind, &key));
            return each(args, |name| client.delete(&path(name)?));
        }
        Some(Kind::Workloads) | None => {}
        Some(_) => {
            return Err(Failure::usage("delete takes workloads, configs, secrets, agents or artifacts"));
        }
    }
    let objects = if args.files.is_empty() { Vec::new() } else { files::read(&args.files)?.objects };
    let keys = workloads(&client, args, &objects)?;
    let data: Vec<DataId> = Object::data(&objects).map(|(kind, object)| object.id(kind)).collect();
    if keys.is_empty() && data.is_empty() {
        return Err(Failure::usage("name what to delete: hub delete workload <name>, -f FILE or -l k=v"));
    }
    let seq = progress::position(&client)?;
    for key in &keys {
        let _: Answer = client.delete(&kinds::path(key))?;
        say!("workload {key} deleted");
    }
    // After what uses them.
    for id in &data {
        let _: Answer = client.delete(&kinds::data_path(id.kind, &id.key))?;
        say!("{} {} deleted", id.kind, id.key);
    }
    if args.no_wait {
        return Ok(());
    }
    let goals: BTreeMap<_, _> = keys.into_iter().map(|key| (key, Goal::Deleted)).collect();
    progress::watch(Arc::new(client), goals, seq, args.timeout)
}

fn each(args: &DeleteArgs, delete: impl Fn(&str) -> Done<Answer>) -> Done {
    if args.names.is_empty() {
        return Err(Failure::usage("name what to delete"));
    }
    for name in &args.names {
        delete(name)?;
        say!("{name} deleted");
    }
    Ok(())
}

fn workloads(client: &Client, args: &DeleteArgs, objects: &[Object]) -> Done<Vec<WorkloadKey>> {
    if !args.files.is_empty() {
        return Ok(Object::workloads(objects).map(|(workload, _)| workload.key()).collect());
    }
    let mut keys =
        args.names.iter().map(|name| key(name, args.namespace.as_deref())).collect::<Done<Vec<_>>>()?;
    if args.selector.is_some() {
        let namespace = args.namespace.clone().unwrap_or_else(|| "default".to_string());
        let list: Items = client.get(&format!(
            "/v1/workloads{}",
            query(&[("namespace", Some(namespace)), ("selector", args.selector.clone())])
        ))?;
        if list.items.is_empty() {
            return Err(kinds::not_found("no workload has these labels"));
        }
        keys.extend(list.items.into_iter().map(|view| view.key));
    }
    Ok(keys)
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hub scale press-guard --replicas 5")]
pub struct ScaleArgs {
    name: String,
    #[arg(long)]
    replicas: u32,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Do not wait until it is steady
    #[arg(long)]
    no_wait: bool,
    #[arg(long, default_value = "5m")]
    timeout: Duration,
}

pub fn scale(client: Client, args: &ScaleArgs) -> Done {
    let key = key(&args.name, args.namespace.as_deref())?;
    let seq = progress::position(&client)?;
    let body = serde_json::json!({"replicas": args.replicas}).to_string();
    let _: Answer =
        client.post(&format!("{}/scale", kinds::path(&key)), "application/json", body.as_bytes())?;
    say!("workload {key} scaled to {}", args.replicas);
    steady(client, key, seq, args.no_wait, args.timeout)
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hub restart press-guard    one instance after the other on each board")]
pub struct RestartArgs {
    name: String,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Do not wait until it is steady
    #[arg(long)]
    no_wait: bool,
    #[arg(long, default_value = "5m")]
    timeout: Duration,
}

pub fn restart(client: Client, args: &RestartArgs) -> Done {
    let key = key(&args.name, args.namespace.as_deref())?;
    let seq = progress::position(&client)?;
    let _: Answer = client.post(&format!("{}/restart", kinds::path(&key)), "application/json", b"{}")?;
    say!("workload {key} restarts");
    steady(client, key, seq, args.no_wait, args.timeout)
}

fn steady(client: Client, key: WorkloadKey, seq: u64, no_wait: bool, timeout: Duration) -> Done {
    if no_wait {
        return Ok(());
    }
    progress::watch(Arc::new(client), BTreeMap::from([(key, Goal::Steady { all: false })]), seq, timeout)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum For {
    /// Every reachable target is
    Steady,
    /// Those of offline agents too
    AllSteady,
    Deleted,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hub wait press-guard --for steady --timeout 2m")]
pub struct WaitArgs {
    names: Vec<String>,
    #[arg(long = "for", value_enum, default_value_t = For::Steady)]
    goal: For,
    #[arg(short, long)]
    namespace: Option<String>,
    #[arg(long, default_value = "5m")]
    timeout: Duration,
}

pub fn wait(client: Client, args: &WaitArgs) -> Done {
    let goal = match args.goal {
        For::Steady => Goal::Steady { all: false },
        For::AllSteady => Goal::Steady { all: true },
        For::Deleted => Goal::Deleted,
    };
    let keys =
        args.names.iter().map(|name| key(name, args.namespace.as_deref())).collect::<Done<Vec<_>>>()?;
    if keys.is_empty() {
        return Err(Failure::usage("name the workloads to wait for"));
    }
    let seq = progress::position(&client)?;
    if goal != Goal::Deleted {
        for key in &keys {
            let _: WorkloadView = client.get(&kinds::path(key))?;
        }
    }
    progress::watch(Arc::new(client), keys.into_iter().map(|key| (key, goal)).collect(), seq, args.timeout)
}
