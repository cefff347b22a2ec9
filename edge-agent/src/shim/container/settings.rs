//! From what the agent was told to what `oci` is told: a container's settings.

use std::path::PathBuf;

use contract::run::{Container as Asked, MountSource as From_, RunMount};
use contract::spec::NetworkMode;
use oci::run::{Capabilities, Device, Hidden, Limits, Mount, MountSource, Network, Settings};

use crate::instance::data::env_file;
use crate::instance::record::{ContainerSpec, RunDir, Spec};

pub fn of(dir: &RunDir, spec: &Spec, container: &ContainerSpec) -> Settings {
    let run = &spec.assignment.run;
    let asked = run.container.clone().unwrap_or_default();
    let name = spec.instance.workload.name.to_string();
    Settings {
        id: format!("{}.{}", spec.instance.file_name(), spec.run),
        command: run.command.clone(),
        args: run.args.clone(),
        env: run.env.clone(),
        hidden: hidden(dir, spec),
        hostname: Some(asked.hostname.clone().unwrap_or(name)),
        read_only_root: asked.read_only_root,
        mounts: run.mounts.iter().filter_map(|m| mount(spec, m)).chain(data(spec)).collect(),
        devices: devices(&asked),
        capabilities: Capabilities { add: asked.add_capabilities, drop: asked.drop_capabilities },
        user: asked.user,
        workdir: asked.workdir,
        seccomp: container.seccomp,
        limits: Limits {
            memory_bytes: run.limits.memory_bytes,
            cpu_millis: run.limits.cpu_millis,
            pids: run.limits.pids,
        },
        network: if run.network.mode == NetworkMode::Host { Network::Host } else { Network::None },
        cgroups_path: container.cgroups_path.clone(),
        writable: container.writable.clone(),
    }
}

fn hidden(dir: &RunDir, spec: &Spec) -> Option<Hidden> {
    let (run, file) = (&spec.assignment.run, env_file(dir, &spec.assignment.run)?);
    Some(Hidden { names: run.data.iter().flat_map(|data| data.env.keys().cloned()).collect(), file })
}

/// In the manifest's order, for one may lie in another.
fn mount(spec: &Spec, mount: &RunMount) -> Option<Mount> {
    let from = match &mount.from {
        From_::Tmpfs { size_bytes } => MountSource::Tmpfs { size_bytes: *size_bytes },
        From_::Volume { .. } => MountSource::Volume { host: host(spec, mount)? },
        From_::HostPath { .. } => MountSource::Bind { host: host(spec, mount)? },
    };
    Some(Mount { from, path: mount.path.clone(), read_only: mount.read_only })
}

/// Configs and Secrets. An owner that is named has its files already.
fn data(spec: &Spec) -> impl Iterator<Item = Mount> + '_ {
    let asked = spec.assignment.run.data.iter().flat_map(|data| &data.mounts);
    asked.filter_map(|asked| {
        let host = spec.directories.iter().find(|d| d.guest == asked.path)?.host.clone();
        let from = match asked.owner {
            Some(_) => MountSource::Bind { host },
            None => MountSource::Given { host },
        };
        Some(Mount { from, path: asked.path.clone(), read_only: true })
    })
}

fn host(spec: &Spec, mount: &RunMount) -> Option<PathBuf> {
    spec.directories.iter().find(|d| d.guest == mount.path).map(|d| d.host.clone())
}

fn devices(asked: &Asked) -> Vec<Device> {
    let device = |d: &contract::run::RunDevice| Device {
        host: d.path.clone().into(),
        path: d.inside.clone(),
        access: d.access.clone(),
    };
    asked.devices.iter().map(device).collect()
}
