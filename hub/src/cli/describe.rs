//! `hub describe`: everything about one thing, and above all what it waits for.

use std::io::Write as _;

use clap::Args;
use contract::quantity::Duration;
use contract::status::ProbeKind;
use hub_core::image::ImageRecord;
use hub_core::refused::RefusedView;
use hub_core::view::{AgentView, ArtifactView, Describe, EventView, InstanceView, NotHere};
use serde::Deserialize;

use super::client::{Client, escape, query};
use super::data;
use super::exit::{Done, Failure};
use super::fleet;
use super::get;
use super::kinds::{self, Kind};
use super::style::{age_or_dash, ago, size, table};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hub describe workload press-guard\n  hub describe agent board-7\n  hub describe artifact hello:1"
)]
pub struct DescribeArgs {
    /// workload, config, secret, agent or artifact
    kind: Kind,
    name: String,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Print the hub's answer as JSON
    #[arg(short, long)]
    output: Option<JsonOnly>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum JsonOnly {
    Json,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

pub fn main(client: &Client, args: &DescribeArgs) -> Done {
    let path = match args.kind {
        Kind::Workloads => kinds::path(&kinds::key(&args.name, args.namespace.as_deref())?) + "/describe",
        Kind::Agents => format!("/v1/agents/{}", escape(&args.name)),
        Kind::Artifacts | Kind::Images => format!("/v1/artifacts/{}", escape(&args.name)),
        kind => match kind.of_data() {
            Some(kind) => kinds::data_path(kind, &kinds::key(&args.name, args.namespace.as_deref())?),
            None => {
                let text = "describe takes a workload, a config, a secret, an agent or an artifact";
                return Err(Failure::usage(text));
            }
        },
    };
    let text = match (args.output, args.kind) {
        (Some(JsonOnly::Json), _) => {
            let value: serde_json::Value = client.get(&path)?;
            serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
        }
        (None, Kind::Agents) => agent(client, &client.get(&path)?)?,
        (None, Kind::Artifacts | Kind::Images) => artifact(&client.get(&path)?),
        (None, Kind::Configs | Kind::Secrets) => data::describe(&client.get(&path)?),
        (None, _) => workload(&client.get(&path)?),
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn lines(pairs: &[(&str, String)]) -> String {
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<14}{value}\n"))
        .collect()
}

fn workload(d: &Describe) -> String {
    let (w, e) = (&d.workload, &d.effective);
    let count = if w.every_agent {
        "every agent that matches".to_string()
    } else {
        format!("{} replicas", w.replicas.unwrap_or(0))
    };
    let mut text = lines(&[
        ("Workload", w.key.to_string()),
        ("State", w.message.clone()),
        ("Image", format!("{} ({})", w.image, w.image_digest)),
        ("Revision", format!("{} (attempt {}, version {})", w.revision.short(), w.attempt, w.version)),
        ("Instances", count),
        ("Applied", format!("{} ago", ago(w.applied_wall_ms))),
        ("Limits", format!("cpu {}, memory {}, pids {}, storage {}", e.cpu, e.memory, e.pids, e.storage)),
        ("Network", network(e)),
        ("Ports", e.container.as_ref().map_or(String::new(), |c| listed(&c.ports))),
        ("Priority", w.manifest.spec.priority.map_or(String::new(), |p| p.to_string())),
        ("Restarts", format!("{:?}; stop with {}, {} grace", e.restart_policy, e.stop_signal, e.stop_grace)),
        ("Probes", probes(e)),
        ("Data", contents(e)),
        ("Healthy", format!("after {}; falls back after {}", e.healthy_after, e.deadline)),
    ]);
    text += "\n";
    text += &if d.instances.is_empty() {
        "No instances.\n".to_string()
    } else {
        get::instances(&d.instances, true)
    };
    if d.more_instances > 0 {
        text += &format!("… and {} more\n", d.more_instances);
    }
    if !d.not_here.is_empty() {
        let rows = d.not_here.iter().map(not_here).collect::<Vec<_>>();
        text += "\n";
        text += &table(&["NOT ON", "BECAUSE"], &rows);
    }
    let rows = d
        .revisions
        .iter()
        .map(|r| vec![r.revision.short(), r.version.to_string(), r.image.clone()])
        .collect::<Vec<_>>();
    text += "\n";
    text += &table(&["REVISION", "VERSION", "IMAGE"], &rows);
    text + &recent(&d.events)
}

/// `12 agents (a, b, …)`, and why.
fn not_here(n: &NotHere) -> Vec<String> {
    let names = n.agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let who = match n.count {
        1 => names,
        count if count > n.agents.len() => format!("{count} agents ({names}, …)"),
        count => format!("{count} agents ({names})"),
    };
    vec![who, n.reason.clone()]
}

/// Which content of each Config and Secret this revision has.
fn contents(e: &hub_core::view::EffectiveView) -> String {
    e.data.iter().map(|(name, digest)| format!("{name} ({})", digest.short())).collect::<Vec<_>>().join(", ")
}

fn listed(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn network(e: &hub_core::view::EffectiveView) -> String {
    let mode = format!("{:?}", e.network.mode).to_lowercase();
    let mut text = mode;
    if !e.network.connect.is_empty() {
        text += &format!("; may connect to {}", e.network.connect.join(", "));
    }
    if !e.network.listen.is_empty() {
        text += &format!("; may listen on {}", listed(&e.network.listen));
    }
    text
}

fn probes(e: &hub_core::view::EffectiveView) -> String {
    let Some(probes) = &e.probes else { return String::new() };
    let told = |which: ProbeKind| {
        let probe = probes.get(which)?;
        let time = |ms| Duration { ms };
        let mut text = format!(
            "{which}: {}, every {}, fails after {} without an answer in {}",
            probe.ask,
            time(probe.period_ms),
            probe.failure_threshold,
            time(probe.timeout_ms)
        );
        if probe.initial_delay_ms > 0 {
            text += &format!(", first after {}", time(probe.initial_delay_ms));
        }
        if probe.success_threshold > 1 {
            text += &format!(", well after {} answers", probe.success_threshold);
        }
        Some(text)
    };
    ProbeKind::ALL.into_iter().filter_map(told).collect::<Vec<_>>().join("\n              ")
}

fn recent(events: &[EventView]) -> String {
    if events.is_empty() { String::new() } else { format!("\n{}", get::events(events)) }
}

fn refused(r: &RefusedView) -> String {
    format!("{} {}, the last {} ago: {}", r.count, r.why.word(), age_or_dash(Some(r.age_ms)), r.last)
}

fn agent(client: &Client, a: &AgentView) -> Done<String> {
    let instances: Items<InstanceView> =
        client.get(&format!("/v1/instances{}", query(&[("agent", Some(a.agent.to_string()))])))?;
    let events: Items<EventView> = client.get(&format!(
        "/v1/events{}",
        query(&[("agent", Some(a.agent.to_string())), ("limit", Some("20".into()))])
    ))?;
    let labels = a.labels.iter().map(|(k, v)| origin(a, k, v)).collect::<Vec<_>>().join(", ");
    let state =
        serde_json::to_value(a.state).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default();
    let mut text = lines(&[
        ("Agent", a.agent.to_string()),
        ("State", format!("{state} for {}", age_or_dash(a.since_ms))),
        (
            "Report",
            format!(
                "{} old{}",
                age_or_dash(a.age_ms),
                if a.fresh { "" } else { ", not fresh: what follows is last known" }
            ),
        ),
        ("Problems", a.problems.join("\n              ")),
        ("Refused", a.refused.iter().map(refused).collect::<Vec<_>>().join("\n              ")),
        ("Board", format!("{}, {}, agent {}", a.board, a.arch, a.version)),
        (
            "Document",
            format!(
                "generation {} applied, {} current",
                a.applied.map_or("none".into(), |g| g.to_string()),
                a.current
            ),
        ),
        ("Labels", labels),
        ("Taints", a.taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ("Cordoned", if a.cordoned { "yes: nothing new comes here".to_string() } else { String::new() }),
        ("Drain", a.drain.as_ref().map_or(String::new(), fleet::drained)),
        ("Features", a.features.iter().cloned().collect::<Vec<_>>().join(", ")),
        ("Engines", a.engines.join(", ")),
        ("CPU", format!("{}m of {}m allocated", a.allocated.cpu_millis, a.capacity.cpu_millis)),
        (
            "Memory",
            format!("{} of {} allocated", size(a.allocated.memory_bytes), size(a.capacity.memory_bytes)),
        ),
        ("Storage", storage(a)),
    ]);
    text += "\n";
    text += &if instances.items.is_empty() {
        "No instances.\n".to_string()
    } else {
        get::instances(&instances.items, true)
    };
    Ok(text + &recent(&events.items))
}

fn storage(a: &AgentView) -> String {
    let of = |bytes: Option<u64>| size(bytes.unwrap_or(0));
    format!("{} of {} allocated", of(a.allocated.storage_bytes), of(a.capacity.storage_bytes))
}

/// A label, and who says so where it is not the agent itself.
fn origin(a: &AgentView, key: &str, value: &str) -> String {
    match (a.operator_labels.contains_key(key), a.covered_labels.get(key)) {
        (false, _) => format!("{key}={value}"),
        (true, None) => format!("{key}={value} (operator)"),
        (true, Some(own)) => format!("{key}={value} (operator; the agent says {own})"),
    }
}

/// What a board of each platform fetches: its manifest, configuration and layers.
fn platforms(image: &ImageRecord) -> String {
    let mut text = String::new();
    for platform in &image.platforms {
        let layers = platform.layers.iter().enumerate().map(|(n, piece)| (format!("layer {n}"), piece));
        let pieces = [("manifest".to_string(), &platform.manifest), ("config".to_string(), &platform.config)];
        let rows = pieces.into_iter().chain(layers);
        let rows = rows.map(|(what, piece)| vec![what, size(piece.size_bytes), piece.digest.to_string()]);
        text += &format!("\n{}, {}\n", platform.platform, size(platform.size_bytes()));
        text += &table(&["PART", "SIZE", "DIGEST"], &rows.collect::<Vec<_>>());
    }
    text
}

fn artifact(a: &ArtifactView) -> String {
    let tags = a.tags.iter().cloned().collect::<Vec<_>>().join(", ");
    let users = a.used_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let image = a.image.as_deref();
    let sources = image.map(|image| image.sources.join(", ")).unwrap_or_default();
    let mut text = lines(&[
        ("Artifact", a.digest.to_string()),
        ("Kind", get::artifact_kind(a.kind).to_string()),
        ("Tags", tags),
        ("Source", sources),
        ("Platforms", image.map(get::platforms).unwrap_or_default()),
        ("Size", size(a.size_bytes)),
        ("Since", format!("{} ago", ago(a.pushed_wall_ms))),
        ("Used by", users),
    ]);
    if let Some(image) = &a.image {
        return text + &platforms(image);
    }
    let rows = a.compiled.iter().map(|(engine, compiled)| {
        let value = serde_json::to_value(compiled).unwrap_or_default();
        let state = value["state"].as_str().unwrap_or_default().to_string();
        vec![
            engine.clone(),
            state,
            value["reason"].as_str().or(value["digest"].as_str()).unwrap_or_default().to_string(),
        ]
    });
    text += "\n";
    text += &table(&["ENGINE", "STATE", "CODE"], &rows.collect::<Vec<_>>());
    text
}
