//! `edge-agent volumes`: what workloads have stored on this board, and how it is given up. A volume is
//! somebody's data: it outlives its workload, and goes only when a person says so, here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_core::StatusView;
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use contract::quantity::Bytes;
use contract::{InstanceId, Name};
use serde::{Deserialize, Serialize};

use crate::cli::{RunDir, StateDir};
use crate::instance::{Places, attached_to};

#[derive(Debug, Args)]
pub struct VolumesArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    state: StateDir,
    #[command(flatten)]
    run: RunDir,
    /// How to print the list
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delete the volumes of an instance, or one of them, with all that is in them
    Rm {
        /// <namespace>/<workload>/<slot>; as much of it as names one instance is enough
        instance: String,
        /// The one volume; all of the instance's when left out
        volume: Option<Name>,
        /// Although the instance is to run here, or no agent answers that could tell
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub instance: InstanceId,
    pub name: Name,
    pub size_bytes: u64,
}

impl Volume {
    fn image(&self, places: &Places) -> PathBuf {
        places.volumes(&self.instance).join(format!("{}.ext4", self.name))
    }
}

/// Every volume on the board. Names that no agent gave are left alone.
pub fn all(places: &Places) -> Vec<Volume> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let mut volumes = Vec::new();
    for owner in entries(&places.state_dir.join("volumes")) {
        let Ok(instance) = InstanceId::from_file_name(&owner.file_name().to_string_lossy()) else { continue };
        let volume = |image: fs::DirEntry| {
            let name = image.file_name().to_str()?.strip_suffix(".ext4")?.parse().ok()?;
            Some(Volume { instance: instance.clone(), name, size_bytes: image.metadata().ok()?.len() })
        };
        volumes.extend(entries(&owner.path()).filter_map(volume));
    }
    volumes.sort();
    volumes
}

/// Whether the instance is on this board, or is to be. Without a document nobody knows: then it is.
pub fn is_here(status: &StatusView, instance: &InstanceId) -> bool {
    let work = status.workloads.get(&instance.workload);
    status.provisional || work.is_some_and(|work| work.status.instances.contains_key(&instance.slot))
}

pub fn main(args: VolumesArgs) -> anyhow::Result<ExitCode> {
    let places = Places::new(args.run.run_dir, std::path::absolute(args.state.state_dir)?);
    let agent = crate::status::agent_of(&places.run_dir);
    match args.command {
        None => list(&places, agent.ok().as_ref(), args.output)?,
        Some(Command::Rm { instance, volume, force }) => {
            let doomed = find(&all(&places), &instance, volume.as_ref())?;
            if !force {
                not_wanted(&doomed[0].instance, &agent)?;
            }
            doomed.iter().try_for_each(|volume| remove(&places, volume))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(places: &Places, agent: Option<&StatusView>, output: Output) -> anyhow::Result<()> {
    let volumes = all(places);
    if output == Output::Json {
        println!("{}", serde_json::to_string(&volumes)?);
        return Ok(());
    }
    if volumes.is_empty() {
        println!("No volumes.");
        return Ok(());
    }
    println!("{:<32} {:<24} {:>8}  STATE", "INSTANCE", "VOLUME", "SIZE");
    for volume in &volumes {
        let state = match agent {
            _ if attached_to(&volume.image(places)).is_some() => "mounted",
            Some(agent) if is_here(agent, &volume.instance) => "not mounted",
            Some(_) => "kept; its workload is no longer here",
            None => "not mounted; no agent answers that knows whether it is wanted",
        };
        let (instance, size) = (volume.instance.to_string(), Bytes(volume.size_bytes).to_string());
        println!("{instance:<32} {:<24} {size:>8}  {state}", volume.name.as_str());
    }
    Ok(())
}

/// The volumes of the one instance that `wanted` names.
fn find(volumes: &[Volume], wanted: &str, name: Option<&Name>) -> anyhow::Result<Vec<Volume>> {
    let of_it: Vec<&Volume> = volumes.iter().filter(|v| crate::logs::names(wanted, &v.instance)).collect();
    let Some(first) = of_it.first() else {
        bail!("no instance '{wanted}' has a volume here; `edge-agent volumes` lists them");
    };
    if let Some(other) = of_it.iter().find(|v| v.instance != first.instance) {
        bail!("'{wanted}' may be {} or {}: say which", first.instance, other.instance);
    }
    let found: Vec<Volume> =
        of_it.iter().filter(|v| name.is_none_or(|n| *n == v.name)).map(|v| (*v).clone()).collect();
    match name {
        Some(name) if found.is_empty() => bail!("{} has no volume '{name}' here", first.instance),
        _ => Ok(found),
    }
}

fn not_wanted(instance: &InstanceId, agent: &anyhow::Result<StatusView>) -> anyhow::Result<()> {
    match agent {
        Ok(agent) if is_here(agent, instance) => bail!(
            "{instance} is to run on this board and would start with an empty volume: delete the workload at \
             the hub first, or say --force"
        ),
        Ok(_) => Ok(()),
        Err(why) => bail!(
            "{why:#}, so nobody knows whether {instance} is still wanted: start the agent, or say --force"
        ),
    }
}

fn remove(places: &Places, volume: &Volume) -> anyhow::Result<()> {
    let image = volume.image(places);
    if let Some(device) = attached_to(&image) {
        bail!("{} {} is mounted ({device}): stop what uses it first", volume.instance, volume.name);
    }
    fs::remove_file(&image).with_context(|| image.display().to_string())?;
    // Gone with its last volume.
    let _ = fs::remove_dir(places.volumes(&volume.instance));
    println!("removed {} {} ({})", volume.instance, volume.name, Bytes(volume.size_bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> (tempfile::TempDir, Places) {
        let tmp = tempfile::tempdir().unwrap();
        let places = Places::new(tmp.path(), tmp.path());
        for (instance, name) in
            [("plant/press/0", "data"), ("plant/press/0", "more"), ("lab/press/0", "data")]
        {
            let dir = places.volumes(&instance.parse().unwrap());
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("{name}.ext4")), "four").unwrap();
        }
        fs::write(places.volumes(&"plant/press/0".parse().unwrap()).join(".data.ext4.tmp"), "").unwrap();
        fs::create_dir(tmp.path().join("volumes/lost+found")).unwrap();
        (tmp, places)
    }

    #[test]
    fn volumes_are_found_by_name_and_removed_alone() {
        let (_tmp, places) = board();
        let volumes = all(&places);
        assert_eq!(volumes.len(), 3);
        assert_eq!(volumes[0].size_bytes, 4);
        let refused = |wanted: &str, name: Option<&str>| {
            let name = name.map(|n| n.parse().unwrap());
            find(&volumes, wanted, name.as_ref()).unwrap_err().to_string()
        };
        assert!(refused("press", None).contains("lab/press/0 or plant/press/0"));
        assert!(refused("lathe", None).contains("no instance 'lathe'"));
        assert!(refused("plant/press", Some("none")).contains("plant/press/0 has no volume 'none'"));
        for volume in find(&volumes, "plant/press", None).unwrap() {
            remove(&places, &volume).unwrap();
        }
        assert_eq!(all(&places).iter().map(|v| v.instance.to_string()).collect::<Vec<_>>(), ["lab/press/0"]);
    }

    #[test]
    fn without_an_agent_nothing_is_given_up_unasked() {
        let silent = Err(anyhow::anyhow!("no agent answers at x"));
        let refused = not_wanted(&"lab/press/0".parse().unwrap(), &silent).unwrap_err().to_string();
        assert!(refused.contains("no agent answers at x") && refused.contains("--force"), "{refused}");
    }
}
