//! What holds where a manifest is silent. Admission, composing and `describe` all ask here.
//! A default is never written into a spec: it is not part of the revision.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::data::{DataKind, DataName};
use crate::rules;
use crate::run::{
    Container, DataKey, DataMount, DataRef, MountSource, NetworkAllowance, ProbeAsk, Probes, ResourceLimits,
    RunData, RunDevice, RunMount, RunProbe,
};
use crate::spec::{Mount, NetworkMode, Probe, Resources, RestartPolicy, WorkloadSpec};
use crate::time::Millis;

pub const STOP_SIGNAL: &str = "TERM";
pub const STOP_GRACE_MS: Millis = 10_000;
pub const DEVICE_ACCESS: &str = "rw";
pub const HEALTHY_AFTER_MS: Millis = 3_000;
/// On top of what probes may take until an instance can be ready at all.
pub const HEALTH_DEADLINE_MS: Millis = 600_000;
/// Those of Kubernetes.
pub const PROBE_PERIOD_MS: Millis = 10_000;
pub const PROBE_TIMEOUT_MS: Millis = 1_000;
pub const PROBE_FAILURE_THRESHOLD: u32 = 3;
pub const PROBE_SUCCESS_THRESHOLD: u32 = 1;
pub const PROBE_PATH: &str = "/";
pub const PROBE_HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A spec with its defaults in.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveSpec {
    pub limits: ResourceLimits,
    pub network: NetworkAllowance,
    /// Volumes, host paths and tmpfs; for Configs and Secrets see [`data`].
    pub mounts: Vec<RunMount>,
    pub restart_policy: RestartPolicy,
    pub stop_signal: String,
    pub stop_grace_ms: Millis,
    pub healthy_after_ms: Millis,
    pub health_deadline_ms: Millis,
    pub probes: Option<Box<Probes>>,
}

pub fn effective(spec: &WorkloadSpec) -> EffectiveSpec {
    let limits = limits(spec.resources.as_ref());
    let stop = spec.stop.as_ref();
    let rollout = spec.rollout.as_ref();
    let probes = probes(spec);
    EffectiveSpec {
        limits,
        network: network(spec),
        mounts: spec.mounts.iter().filter_map(|m| mount(m, &limits)).collect(),
        restart_policy: spec.restart_policy.unwrap_or_default(),
        stop_signal: stop.and_then(|s| s.signal.clone()).unwrap_or_else(|| STOP_SIGNAL.to_string()),
        stop_grace_ms: stop.and_then(|s| s.grace).map_or(STOP_GRACE_MS, |d| d.ms),
        healthy_after_ms: rollout.and_then(|r| r.healthy_after).map_or(HEALTHY_AFTER_MS, |d| d.ms),
        health_deadline_ms: rollout
            .and_then(|r| r.deadline)
            .map_or_else(|| HEALTH_DEADLINE_MS.saturating_add(unready_ms(spec)), |d| d.ms),
        probes,
    }
}

/// How long an instance that is well may be not ready after its start: what its startup probe may take, or
/// until its readiness probe is asked first.
pub fn unready_ms(spec: &WorkloadSpec) -> Millis {
    let of = |given: &Option<Probe>| given.as_ref().and_then(probe);
    let startup = of(&spec.startup_probe).map_or(0, |probe| probe.budget_ms());
    startup.max(of(&spec.readiness_probe).map_or(0, |probe| probe.initial_delay_ms))
}

/// None where there is no probe at all.
pub fn probes(spec: &WorkloadSpec) -> Option<Box<Probes>> {
    let of = |given: &Option<Probe>| given.as_ref().and_then(probe);
    let probes = Probes {
        startup: of(&spec.startup_probe),
        liveness: of(&spec.liveness_probe),
        readiness: of(&spec.readiness_probe),
    };
    (probes != Probes::default()).then(|| Box::new(probes))
}

/// None for one that asks nothing, which admission refuses.
pub fn probe(given: &Probe) -> Option<RunProbe> {
    let host = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok()).unwrap_or(PROBE_HOST);
    let ask = if let Some(command) = &given.exec {
        ProbeAsk::Exec { command: command.clone() }
    } else if let Some(http) = &given.http_get {
        let path = http.path.clone().unwrap_or_else(|| PROBE_PATH.to_string());
        ProbeAsk::Http { host: host(&http.host), port: http.port, path, headers: http.headers.clone() }
    } else {
        let tcp = given.tcp.as_ref()?;
        ProbeAsk::Tcp { host: host(&tcp.host), port: tcp.port }
    };
    Some(RunProbe {
        ask,
        initial_delay_ms: given.initial_delay.map_or(0, |d| d.ms),
        period_ms: given.period.map_or(PROBE_PERIOD_MS, |d| d.ms),
        timeout_ms: given.timeout.map_or(PROBE_TIMEOUT_MS, |d| d.ms),
        success_threshold: given.success_threshold.unwrap_or(PROBE_SUCCESS_THRESHOLD),
        failure_threshold: given.failure_threshold.unwrap_or(PROBE_FAILURE_THRESHOLD),
    })
}

pub fn limits(resources: Option<&Resources>) -> ResourceLimits {
    let given = resources.copied().unwrap_or_default();
    let default = ResourceLimits::DEFAULT;
    ResourceLimits {
        cpu_millis: given.cpu.map_or(default.cpu_millis, |cpu| cpu.millis),
        memory_bytes: given.memory.map_or(default.memory_bytes, |bytes| bytes.0),
        pids: given.pids.unwrap_or(default.pids),
        storage_bytes: given.storage.map_or(default.storage_bytes, |bytes| bytes.0),
    }
}

/// Naming a place to connect to, or a port, asks for the board's network.
pub fn network(spec: &WorkloadSpec) -> NetworkAllowance {
    let given = spec.network.clone().unwrap_or_default();
    let uses = !given.connect.is_empty() || !given.listen.is_empty() || !spec.ports.is_empty();
    let mode = given.mode.unwrap_or(if uses { NetworkMode::Host } else { NetworkMode::None });
    NetworkAllowance { mode, connect: given.connect, listen: given.listen }
}

/// For a workload that is a container.
pub fn container(spec: &WorkloadSpec) -> Container {
    let security = spec.security.clone().unwrap_or_default();
    let capabilities = security.capabilities.unwrap_or_default();
    let devices = spec.devices.iter().map(|device| RunDevice {
        path: device.path.clone(),
        inside: device.inside.clone().unwrap_or_else(|| device.path.clone()),
        access: device.access.clone().unwrap_or_else(|| DEVICE_ACCESS.to_string()),
    });
    Container {
        user: security.user,
        workdir: spec.workdir.clone(),
        hostname: spec.hostname.clone(),
        read_only_root: security.read_only_root,
        add_capabilities: capabilities.add,
        drop_capabilities: capabilities.drop,
        devices: devices.collect(),
        ports: spec.ports.iter().map(|port| port.host.unwrap_or(port.port)).collect(),
    }
}

/// None for a Config or Secret: those are pinned first ([`data`]).
pub fn mount(mount: &Mount, limits: &ResourceLimits) -> Option<RunMount> {
    let from = if let Some(name) = &mount.volume {
        let size_bytes = mount.size.map_or(limits.storage_bytes, |size| size.0);
        MountSource::Volume { name: name.clone(), size_bytes }
    } else if let Some(path) = &mount.host_path {
        MountSource::HostPath { path: path.clone() }
    } else {
        MountSource::Tmpfs { size_bytes: mount.tmpfs?.0 }
    };
    Some(RunMount { from, path: mount.path.clone(), read_only: mount.read_only })
}

/// The modes of files where none is given.
const CONFIG_MODE: u32 = 0o444;
const SECRET_MODE: u32 = 0o400;

/// What a workload gets of the contents that were pinned for it; what is optional and not there is left
/// out. `has` says whether a content has a key.
pub fn data(
    spec: &WorkloadSpec,
    pinned: impl Fn(&DataName) -> Option<DataRef>,
    has: impl Fn(&DataName, &str) -> bool,
) -> Option<Box<RunData>> {
    let there = |of: &DataName, key: Option<&str>| pinned(of).is_some() && key.is_none_or(|key| has(of, key));
    let mut data = RunData::default();
    for (variable, value) in &spec.env {
        let Some((of, key, _)) = value.of_data().filter(|(of, key, _)| there(of, Some(key))) else {
            continue;
        };
        data.env.insert(variable.clone(), DataKey { of, key: key.to_string() });
    }
    for mount in &spec.mounts {
        let Some(of) = mount.of_data().filter(|of| there(of, mount.key.as_deref())) else { continue };
        let default = if of.kind == DataKind::Config { CONFIG_MODE } else { SECRET_MODE };
        let mode = mount.mode.as_deref().and_then(|text| rules::file_mode(text).ok()).unwrap_or(default);
        let owner = mount.owner.as_deref().and_then(|text| rules::file_owner(text).ok());
        data.mounts.push(DataMount { of, key: mount.key.clone(), path: mount.path.clone(), mode, owner });
    }
    let used = data.env.values().map(|key| &key.of).chain(data.mounts.iter().map(|mount| &mount.of));
    let used: BTreeSet<&DataName> = used.collect();
    data.objects = used.into_iter().filter_map(pinned).collect();
    (!data.objects.is_empty()).then(|| Box::new(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Bytes, Duration};
    use crate::spec::{DeviceMount, Network, Port, Rollout, Security, Stop};

    #[test]
    fn silence_gets_the_defaults() {
        let got = effective(&WorkloadSpec::default());
        assert_eq!(got.limits, ResourceLimits::DEFAULT);
        assert_eq!(got.network, NetworkAllowance::default());
        assert_eq!((got.stop_signal.as_str(), got.stop_grace_ms), ("TERM", 10_000));
        assert_eq!((got.healthy_after_ms, got.health_deadline_ms), (3_000, 600_000));
        assert_eq!(got.restart_policy, RestartPolicy::Always);
    }

    #[test]
    fn what_is_given_stays() {
        let spec = WorkloadSpec {
            resources: Some(Resources { memory: Some(Bytes(9 << 20)), ..Resources::default() }),
            network: Some(Network { connect: vec!["a:1".into()], ..Network::default() }),
            stop: Some(Stop { signal: Some("INT".into()), grace: None }),
            rollout: Some(Rollout { healthy_after: Some(Duration { ms: 7 }), ..Rollout::default() }),
            mounts: vec![
                Mount { volume: "data".parse().ok(), path: "/data".into(), ..Mount::default() },
                Mount { tmpfs: Some(Bytes(5)), path: "/tmp".into(), ..Mount::default() },
            ],
            ..WorkloadSpec::default()
        };
        let got = effective(&spec);
        assert_eq!((got.limits.memory_bytes, got.limits.pids), (9 << 20, 64));
        assert_eq!(got.network.mode, NetworkMode::Host);
        assert_eq!((got.stop_signal.as_str(), got.stop_grace_ms), ("INT", 10_000));
        assert_eq!((got.healthy_after_ms, got.health_deadline_ms), (7, 600_000));
        let sizes: Vec<_> = got.mounts.iter().map(|m| m.from.clone()).collect();
        let volume = MountSource::Volume { name: "data".parse().unwrap(), size_bytes: 64 << 20 };
        assert_eq!(sizes, [volume, MountSource::Tmpfs { size_bytes: 5 }]);
    }

    #[test]
    fn mode_none_is_kept_when_written() {
        let given = Network { mode: Some(NetworkMode::None), connect: vec![], listen: vec![80] };
        let spec = WorkloadSpec { network: Some(given), ..WorkloadSpec::default() };
        assert_eq!(network(&spec).mode, NetworkMode::None);
    }

    #[test]
    fn a_container_gets_what_is_given_and_the_rest_is_the_images() {
        assert_eq!(container(&WorkloadSpec::default()), Container::default());
        let spec = WorkloadSpec {
            security: Some(Security { user: Some("101".into()), ..Security::default() }),
            devices: vec![DeviceMount { path: "/dev/i2c-1".into(), inside: None, access: None }],
            ports: vec![Port { name: None, port: 8080, host: None }],
            ..WorkloadSpec::default()
        };
        let got = container(&spec);
        assert_eq!((got.user.as_deref(), got.ports), (Some("101"), vec![8080]));
        let device =
            RunDevice { path: "/dev/i2c-1".into(), inside: "/dev/i2c-1".into(), access: "rw".into() };
        assert_eq!(got.devices, [device]);
        assert_eq!(network(&spec).mode, NetworkMode::Host, "a port asks for the board's network");
    }
}
