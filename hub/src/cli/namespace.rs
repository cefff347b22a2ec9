//! `hub namespace`: quotas and policies.

use clap::Subcommand;
use contract::Name;
use contract::quantity::{Bytes, Cpu};
use hub_core::access::view::NamespaceView;
use hub_core::access::{Forbidden, Namespace, Quota};
use hub_core::api::Answer;

use super::access::json;
use super::client::Client;
use super::describe::JsonOnly;
use super::exit::{Code, Done, Failure};
use super::style::table;
use crate::api::namespaces::NamespaceList;

#[derive(Debug, Subcommand)]
pub enum NamespaceCommand {
    /// Namespaces: what each takes of how much, and what may not run in it
    #[command(visible_alias = "ls")]
    List {
        #[arg(short, long)]
        output: Option<JsonOnly>,
    },
    /// Say how much a namespace may take, and what may not run in it; what is left out has no limit
    #[command(after_help = "\
Replicas count as they are asked for; of everyAgent each selected board. A workload that names no limit
counts with the default ('hub describe workload'). What is there already stays, and is shown by 'list'.
Example:
  hub namespace set plant --cpu 8 --memory 2Gi --instances 40 --forbid privileged,host-paths,unpinned-images")]
    Set {
        name: Name,
        /// Cores: 500m, 8
        #[arg(long)]
        cpu: Option<Cpu>,
        /// 512Mi, 2Gi
        #[arg(long)]
        memory: Option<Bytes>,
        /// Writable layers and volumes: 10Gi
        #[arg(long)]
        storage: Option<Bytes>,
        #[arg(long)]
        instances: Option<u32>,
        /// privileged, capabilities, host-network, host-paths, devices, unpinned-images
        #[arg(long, value_delimiter = ',', value_name = "POLICY")]
        forbid: Vec<Forbidden>,
    },
    /// Let a namespace take what it likes; what is in it stays
    Delete { name: Name },
}

pub fn main(client: &Client, command: &NamespaceCommand) -> Done {
    match command {
        NamespaceCommand::List { output } => {
            let list: NamespaceList = client.get("/v1/namespaces")?;
            if output.is_some() {
                return json(&list);
            }
            let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
            let head = ["NAME", "WORKLOADS", "INSTANCES", "CPU", "MEMORY", "STORAGE", "FORBIDS", "BREACHES"];
            say!("{}", table(&head, &rows).trim_end());
        }
        NamespaceCommand::Set { name, cpu, memory, storage, instances, forbid } => {
            let quota = Quota { cpu: *cpu, memory: *memory, storage: *storage, instances: *instances };
            let namespace = Namespace { quota, forbid: forbid.iter().copied().collect() };
            let body =
                serde_json::to_vec(&namespace).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
            let _: Answer = client.put(&format!("/v1/namespaces/{name}"), "application/json", &body)?;
            say!("namespace {name} set");
        }
        NamespaceCommand::Delete { name } => {
            let _: Answer = client.delete(&format!("/v1/namespaces/{name}"))?;
            say!("namespace {name} has no limits any more");
        }
    }
    Ok(())
}

fn row(view: &NamespaceView) -> Vec<String> {
    let of = |taken: String, limit: Option<String>| match limit {
        Some(limit) => format!("{taken} of {limit}"),
        None => taken,
    };
    let (taken, quota) = (&view.taken, &view.quota);
    let cpu = Cpu { millis: u32::try_from(taken.cpu_millis).unwrap_or(u32::MAX) };
    let forbids: Vec<&str> = view.forbid.iter().map(|rule| rule.word()).collect();
    vec![
        view.name.to_string(),
        view.workloads.to_string(),
        of(taken.instances.to_string(), quota.instances.map(|n| n.to_string())),
        of(cpu.to_string(), quota.cpu.map(|cpu| cpu.to_string())),
        of(Bytes(taken.memory_bytes).to_string(), quota.memory.map(|b| b.to_string())),
        of(Bytes(taken.storage_bytes).to_string(), quota.storage.map(|b| b.to_string())),
        if forbids.is_empty() { "-".into() } else { forbids.join(",") },
        view.breaches.len().to_string(),
    ]
}
