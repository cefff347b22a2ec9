//! `hub get`: lists, in the form that a person or a script wants.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use contract::manifest::to_yaml;
use hub_core::image::ImageRecord;
use hub_core::record::ArtifactKind;
use hub_core::view::{ArtifactView, CompiledView, EventView, InstanceView, WorkloadView};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, query};
use super::data;
use super::exit::{Code, Done, Failure};
use super::fleet::{self, FleetArgs};
use super::kinds::{self, Kind};
use super::sse::Events;
use super::style::Color;
use super::style::{age_or_dash, ago, paint, size, state, table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hub get workloads
  hub get instances -n plant -l app=press -o wide
  hub get all -A            every namespace
  hub get w press -o yaml   the manifest as it was applied
  hub get agents --field state=offline --offline-for 1h
  hub get instances -w      and again whenever something changes")]
pub struct GetArgs {
    /// workloads, instances, agents, configs, secrets, artifacts, images, events or all
    kind: Kind,
    /// Only this one
    pub name: Option<String>,
    /// Within this namespace; 'default' when absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// In every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Labels: k=v,k2!=v2,k3,!k4
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Show the values of Secrets, as YAML or with -o json; the hub notes who asked
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// Go on showing changes until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

impl GetArgs {
    pub fn list(
        kind: Kind,
        name: Option<String>,
        selector: Option<String>,
        watch: bool,
        output: Output,
    ) -> GetArgs {
        let fleet = FleetArgs::default();
        GetArgs {
            kind,
            name,
            namespace: None,
            all_namespaces: true,
            selector,
            reveal: false,
            fleet,
            watch,
            output,
        }
    }
}

#[derive(Deserialize)]
pub struct List {
    pub seq: u64,
    pub items: Vec<Value>,
    /// Of agents: there is more.
    #[serde(rename = "continue", default)]
    pub next: Option<String>,
}

pub fn main(client: Client, args: &GetArgs) -> Done {
    let client = Arc::new(client);
    let seq = show(&client, args)?;
    if !args.watch {
        return Ok(());
    }
    let kinds = match args.kind {
        Kind::Agents => "agent",
        Kind::Artifacts | Kind::Images => "artifact",
        Kind::Events => "event",
        _ => "workload,agent",
    };
    let events =
        Events::open(Arc::clone(&client), format!("/v1/watch?after={seq}&kinds={kinds}"), None, true)?;
    while let Some(event) = events.next() {
        let event = event?;
        if event.name == "change" || event.name == "gone" {
            if args.output == Output::Table || args.output == Output::Wide {
                say!();
            }
            show(&client, args)?;
        }
    }
    Ok(())
}

fn show(client: &Client, args: &GetArgs) -> Done<u64> {
    if args.kind == Kind::Agents {
        if let Some(seq) = fleet::count(client, args)? {
            return Ok(seq);
        }
        if !matches!(args.output, Output::Json | Output::Yaml) && args.name.is_none() {
            return fleet::list(client, args);
        }
    } else if !args.fleet.is_empty() {
        return Err(Failure::usage("--field, --offline-for, --by and --all are for agents"));
    }
    let mut seq = u64::MAX;
    let kinds = if args.kind == Kind::All { vec![Kind::Workloads, Kind::Instances] } else { vec![args.kind] };
    let several = kinds.len() > 1;
    let mut out = String::new();
    let mut json = BTreeMap::new();
    for kind in kinds {
        let mut list: List = match kind {
            Kind::Agents => fleet::whole(client, args)?,
            _ => client.get(&path(kind, args)?)?,
        };
        seq = seq.min(list.seq);
        narrow(kind, &mut list.items, args)?;
        if let Some(kind) = kind.of_data().filter(|_| args.reveal && args.output == Output::Json) {
            data::reveal(client, kind, &mut list.items)?;
        }
        match args.output {
            Output::Json => drop(json.insert(noun(kind), list.items)),
            // A table has no place for values: what is revealed is a manifest.
            Output::Yaml | Output::Table | Output::Wide
                if let Some(kind) = kind.of_data().filter(|_| args.reveal || args.output == Output::Yaml) =>
            {
                out += &data::yaml(client, kind, &typed(list.items)?, args.reveal)?;
            }
            Output::Yaml => out += &yaml(kind, &list.items)?,
            Output::Name => out += &names(kind, &list.items),
            Output::Table | Output::Wide => {
                if several && !out.is_empty() {
                    out += "\n";
                }
                out += &rows(kind, list.items, args)?;
            }
        }
    }
    if args.output == Output::Json {
        let value = if several {
            serde_json::json!(json)
        } else {
            serde_json::json!({"items": json.into_values().next()})
        };
        // One object a name: what a script asked for by name is not a list.
        let one = args.name.is_some() && !several;
        let value = if one { value["items"][0].clone() } else { value };
        out = if args.watch {
            value.to_string()
        } else {
            serde_json::to_string_pretty(&value).unwrap_or_default()
        } + "\n";
    }
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(seq)
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Workloads => "workloads",
        Kind::Instances => "instances",
        Kind::Agents => "agents",
        Kind::Artifacts => "artifacts",
        Kind::Configs => "configs",
        Kind::Secrets => "secrets",
        Kind::Images => "images",
        Kind::Events => "events",
        Kind::All => "all",
    }
}

fn path(kind: Kind, args: &GetArgs) -> Done<String> {
    let given = kinds::namespace(args.namespace.as_ref())?;
    let namespace = if args.all_namespaces { None } else { given.or_else(|| Some("default".to_string())) };
    let selector = ("selector", args.selector.clone());
    Ok(match kind {
        Kind::Artifacts | Kind::Images => "/v1/artifacts".to_string(),
        Kind::Events => "/v1/events".to_string(),
        _ => format!("/v1/{}{}", noun(kind), query(&[("namespace", namespace), selector])),
    })
}

/// By name, where the API lists all. A name that is not there is an error.
fn narrow(kind: Kind, items: &mut Vec<Value>, args: &GetArgs) -> Done {
    if kind == Kind::Images {
        items.retain(|item| item["kind"] == "ociImage");
    }
    let Some(name) = &args.name else { return Ok(()) };
    if kind == Kind::Events {
        return Err(Failure::usage("events have no names; see 'hub describe workload <name>'"));
    }
    let fits = |item: &Value| match kind {
        Kind::Workloads | Kind::Configs | Kind::Secrets => is_named(item["key"].as_str(), name),
        Kind::Instances => {
            let id = item["instance"].as_str().unwrap_or_default();
            id == name || is_named(item["workload"].as_str(), name)
        }
        Kind::Agents => item["agent"].as_str() == Some(name),
        _ => {
            let has = |list: &Value| list.as_array().is_some_and(|names| names.iter().any(|n| n == name));
            item["digest"].as_str() == Some(name) || has(&item["tags"]) || has(&item["image"]["sources"])
        }
    };
    items.retain(fits);
    if items.is_empty() {
        return Err(kinds::not_found(&format!(
            "no {} '{name}'; 'hub get {}' lists what there is",
            noun(kind).trim_end_matches('s'),
            noun(kind)
        )));
    }
    Ok(())
}

fn is_named(key: Option<&str>, name: &str) -> bool {
    let key = key.unwrap_or_default();
    key == name || key.split_once('/').is_some_and(|(_, short)| short == name)
}

pub fn typed<T: serde::de::DeserializeOwned>(items: Vec<Value>) -> Done<Vec<T>> {
    let typed = items.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
    typed.map_err(|why| {
        Failure::new(
            Code::Internal,
            format!("the hub's answer cannot be read ({why}): is it of another version?"),
        )
    })
}

fn rows(kind: Kind, items: Vec<Value>, args: &GetArgs) -> Done<String> {
    if items.is_empty() {
        let hint = match kind {
            Kind::Workloads => "; 'hub example' shows one to apply",
            Kind::Agents => "; start one with 'edge-agent run'",
            Kind::Artifacts => "; 'hub push x.wasm --tag x:1' adds one",
            Kind::Configs => "; 'hub example config' shows one to apply",
            Kind::Secrets => "; 'hub example secret' shows one to apply",
            Kind::Images => "; 'hub push' adds one, or an apply that names 'image: host/repo:tag'",
            _ if !args.all_namespaces && matches!(kind, Kind::Instances) => "; -A looks in every namespace",
            _ => "",
        };
        return Ok(format!("No {}{hint}.\n", noun(kind)));
    }
    let wide = args.output == Output::Wide;
    Ok(match kind {
        Kind::Workloads => workloads(&typed(items)?, wide),
        Kind::Instances => instances(&typed(items)?, wide),
        Kind::Agents => fleet::table(&typed(items)?, wide),
        Kind::Artifacts => artifacts(&typed(items)?),
        Kind::Configs | Kind::Secrets => data::rows(&typed(items)?, wide),
        Kind::Images => images(&typed(items)?, wide),
        Kind::Events | Kind::All => events(&typed(items)?),
    })
}

fn workloads(items: &[WorkloadView], wide: bool) -> String {
    let mut head = vec!["WORKLOAD", "IMAGE", "STEADY", "READY", "REVISION", "AGE"];
    if wide {
        head.extend(["RUNTIME", "VERSION"]);
    }
    head.push("MESSAGE");
    let rows = items.iter().map(|w| {
        let steady = format!("{}/{}", w.targets.steady, w.targets.total);
        let color = if w.steady {
            Color::Green
        } else if w.targets.failing > 0 {
            Color::Red
        } else {
            Color::Yellow
        };
        let mut row = vec![
            w.key.to_string(),
            w.image.clone(),
            paint(&steady, color),
            format!("{}/{}", w.targets.ready, w.targets.total),
            w.revision.short(),
            ago(w.applied_wall_ms),
        ];
        if wide {
            row.extend([format!("{:?}", w.runtime).to_lowercase(), w.version.to_string()]);
        }
        row.push(w.message.clone());
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

pub fn instances(items: &[InstanceView], wide: bool) -> String {
    let mut head = vec!["INSTANCE", "AGENT", "STATE", "READY", "RESTARTS", "FOR"];
    if wide {
        head.extend(["REVISION", "REPORT"]);
    }
    head.push("LAST EXIT, WAITING FOR");
    let rows = items.iter().map(|i| {
        let ready = if i.ready { "yes" } else { "no" };
        let mut row = vec![
            i.instance.to_string(),
            i.agent.to_string(),
            state(&i.state),
            ready.to_string(),
            restarts(i),
            age_or_dash(i.age_ms),
        ];
        if wide {
            row.extend([i.revision.short(), age_or_dash(i.report_age_ms)]);
        }
        let mut notes: Vec<String> = i.last_exit.iter().map(ToString::to_string).collect();
        notes.extend(i.unready.as_ref().filter(|_| !i.ready).map(|why| format!("not ready: {why}")));
        notes.extend(i.waiting.clone());
        notes.extend(i.leaving.then(|| "leaving".to_string()));
        row.push(notes.join("; "));
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

fn restarts(i: &InstanceView) -> String {
    match i.probe_restarts {
        0 => i.restarts.to_string(),
        n => format!("{} ({n} by a probe)", i.restarts),
    }
}

fn artifacts(items: &[ArtifactView]) -> String {
    let rows = items.iter().map(|a| {
        let compiled = a.compiled.iter().map(|(engine, state)| {
            let target = engine
                .rsplit_once("-p")
                .map_or(engine.as_str(), |(_, rest)| rest.split_once('-').map_or(rest, |(_, t)| t));
            match state {
                CompiledView::Ready { size_bytes, .. } => format!("{target} {}", size(*size_bytes)),
                CompiledView::Failed { reason } => paint(&format!("{target} failed: {reason}"), Color::Red),
                CompiledView::Compiling => paint(&format!("{target} compiling"), Color::Yellow),
                CompiledView::Missing => format!("{target} waiting"),
                CompiledView::Unserved => paint(&format!("{target} no worker"), Color::Red),
            }
        });
        let fits = match &a.image {
            Some(image) => platforms(image),
            None => compiled.collect::<Vec<_>>().join("; "),
        };
        vec![
            artifact_names(a),
            a.digest.short(),
            artifact_kind(a.kind).to_string(),
            size(a.size_bytes),
            ago(a.pushed_wall_ms),
            a.used_by.len().to_string(),
            fits,
        ]
    });
    table(&["NAMES", "DIGEST", "KIND", "SIZE", "AGE", "USED BY", "FOR"], &rows.collect::<Vec<_>>())
}

fn images(items: &[ArtifactView], wide: bool) -> String {
    let rows = items.iter().map(|a| {
        let users = a.used_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let users = if users.is_empty() { "-".to_string() } else { users };
        let digest = if wide { a.digest.to_string() } else { a.digest.short() };
        let platforms = a.image.as_ref().map(|image| platforms(image)).unwrap_or_default();
        vec![artifact_names(a), digest, size(a.size_bytes), ago(a.pushed_wall_ms), platforms, users]
    });
    table(&["IMAGE", "DIGEST", "SIZE", "AGE", "PLATFORMS", "USED BY"], &rows.collect::<Vec<_>>())
}

/// Tags of this hub, and as whom other registries have it.
fn artifact_names(a: &ArtifactView) -> String {
    let sources = a.image.iter().flat_map(|image| image.sources.iter());
    let names = a.tags.iter().chain(sources).cloned().collect::<Vec<_>>().join(",");
    if names.is_empty() { "-".to_string() } else { names }
}

/// Those that are here, and in brackets those that its registry has besides.
pub fn platforms(image: &ImageRecord) -> String {
    let here = image.platforms.iter().map(|p| p.platform.to_string());
    let there = image.offered.iter().map(|platform| format!("({platform})"));
    here.chain(there).collect::<Vec<_>>().join(", ")
}

/// The runtime, and what of it.
pub fn artifact_kind(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::WasmModule => "wasm module",
        ArtifactKind::WasmComponent => "wasm component",
        ArtifactKind::OciImage => "oci image",
    }
}

pub fn events(items: &[EventView]) -> String {
    let rows = items.iter().map(event_row);
    table(&["AGE", "AGENT", "ABOUT", "KIND", "WHAT"], &rows.collect::<Vec<_>>())
}

pub fn event_row(e: &EventView) -> Vec<String> {
    let dash = || "-".to_string();
    let about =
        e.instance.as_ref().map(ToString::to_string).or_else(|| e.workload.as_ref().map(ToString::to_string));
    let kind = format!("{:?}", e.kind);
    vec![
        ago(e.wall_ms),
        e.agent.as_ref().map_or_else(dash, ToString::to_string),
        about.unwrap_or_else(dash),
        kind,
        e.text.clone(),
    ]
}

/// Workloads as they were applied; everything else as YAML of its JSON.
fn yaml(kind: Kind, items: &[Value]) -> Done<String> {
    if kind != Kind::Workloads {
        return Err(Failure::usage(
            "-o yaml prints workloads, configs and secrets (their manifests); use -o json for the rest",
        ));
    }
    let views: Vec<WorkloadView> = typed(items.to_vec())?;
    Ok(views.iter().map(|w| to_yaml(&w.manifest)).collect::<Vec<_>>().join("---\n"))
}

pub fn names(kind: Kind, items: &[Value]) -> String {
    let field = match kind {
        Kind::Workloads | Kind::Configs | Kind::Secrets => "key",
        Kind::Instances => "instance",
        Kind::Agents => "agent",
        Kind::Artifacts | Kind::Images => "digest",
        _ => "seq",
    };
    items
        .iter()
        .map(|item| {
            format!("{}\n", item[field].as_str().map_or_else(|| item[field].to_string(), str::to_string))
        })
        .collect()
}
