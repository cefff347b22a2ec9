//! What can be said about a trial, and the assignment that it means.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use contract::digest::Digest;
use contract::quantity::{Bytes, Cpu, Duration};
use contract::run::{
    ArtifactRef, Assignment, Container, MountSource, NetworkAllowance, ResourceLimits, RunMount, RunSpec,
};
use contract::spec::{NetworkMode, RestartPolicy, Runtime};
use contract::{Attempt, InstanceId, Name, RevisionId, WorkloadKey};

use crate::cgroup::Controller;
use crate::instance::Artifact;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: the guest's own; 134 it trapped; 137 out of memory or killed; 128+n ended by signal n;
125 it could not be started; 2 wrong arguments.

Examples:
  edge-agent try hello.wasm
  edge-agent try app.wasm --env MODE=test --mount ./data:/data --memory 32Mi -- --verbose
  edge-agent try sensor.wasm --connect broker.local:1883 --watch
  docker save web:1 -o web.tar && edge-agent try web.tar --network host
  edge-agent try ./layout --image web:1 --user 101 -- -g 'daemon off;'")]
pub struct TryArgs {
    /// A .wasm module or component, its .wat text, or code that a hub compiled for this engine; or a container
    /// image: an OCI layout (directory or tar) or what 'docker save' writes
    pub artifact: PathBuf,
    /// Which image of an archive that holds several, by the name it has there
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// Instead of an image's entrypoint; repeated for each word
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    command: Vec<String>,
    /// Whom a container runs as: user or user:group, by number or by the image's names
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// A container cannot change its root
    #[arg(long)]
    read_only: bool,
    /// What the guest gets as its arguments
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
    /// A variable of the guest's environment; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A directory that the guest sees; may be repeated. GUEST may be relative here, as some test suites want it; a manifest takes absolute ones
    #[arg(short, long, value_name = "HOST:GUEST[:ro]")]
    mount: Vec<String>,
    /// Memory limit [default: what a workload gets]
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(ResourceLimits::DEFAULT.memory_bytes))]
    memory: Bytes,
    /// Processor limit, such as 250m or 1.5
    #[arg(long, value_name = "CPU", default_value_t = Cpu { millis: ResourceLimits::DEFAULT.cpu_millis })]
    cpu: Cpu,
    /// How many processes and threads
    #[arg(long, value_name = "N", default_value_t = ResourceLimits::DEFAULT.pids)]
    pids: u32,
    /// How much a container may change of its root
    #[arg(long, value_name = "SIZE", default_value_t = Bytes(ResourceLimits::DEFAULT.storage_bytes))]
    storage: Bytes,
    /// none: no sockets at all; host: what --connect and --listen name [default: host if they name any]; for a container all of the board's network
    #[arg(long, value_name = "none|host")]
    network: Option<Network>,
    /// A place that the guest may connect to; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    connect: Vec<String>,
    /// A port that the guest may listen on; may be repeated
    #[arg(long, value_name = "PORT")]
    listen: Vec<u16>,
    /// How long a guest may take to end after Ctrl-C before it is killed
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    grace: Duration,
    /// Start again whenever the file changes
    #[arg(short, long)]
    pub watch: bool,
    /// Leave the run's records and say where they are
    #[arg(long)]
    pub keep: bool,
    /// The hub program that compiles .wasm and .wat [default: `hub` beside this program, or in PATH]
    #[arg(long, value_name = "PATH", env = "SKERRY_HUB_PROGRAM")]
    pub hub: Option<PathBuf>,
    /// Go on without the limit of a cgroup controller that this kernel lacks: memory, cpu or pids
    #[arg(long, value_name = "CONTROLLER")]
    pub allow_missing_cgroup: Vec<Controller>,
    /// Run a container without a system call filter where there is none (32-bit ARM)
    #[arg(long)]
    pub allow_missing_seccomp: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    None,
    Host,
}

impl TryArgs {
    pub fn instance(&self) -> InstanceId {
        let key = |name: &str| name.parse::<Name>().ok();
        let stem = self.artifact.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let legal: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = key(legal.trim_matches('-')).or_else(|| key("guest")).expect("a legal name");
        let namespace = key("try").expect("a legal name");
        InstanceId { workload: WorkloadKey { namespace, name }, slot: 0 }
    }

    pub fn grace(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.grace.ms)
    }

    pub fn memory(&self) -> Bytes {
        self.memory
    }

    pub fn assignment(&self, instance: &InstanceId, artifact: &Artifact) -> anyhow::Result<Assignment> {
        let (path, runtime) = match artifact {
            Artifact::Code(code) => (code, Runtime::Wasm),
            Artifact::Image(image) => (&image.manifest, Runtime::Oci),
        };
        self.check_for(runtime)?;
        let size_bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
        // Nothing is fetched and nothing compared: the digest only fills its place.
        let digest = Digest::of(path.as_os_str().as_encoded_bytes());
        let engine = (runtime == Runtime::Wasm).then(|| wasm::native_engine().to_string());
        let run = RunSpec {
            runtime,
            artifact: ArtifactRef { source: digest, digest, size_bytes, engine },
            command: self.command.clone(),
            args: self.args.clone(),
            env: self.environment()?,
            limits: self.limits()?,
            network: self.network_allowance()?,
            mounts: self.mount.iter().map(|m| mount(m)).collect::<anyhow::Result<_>>()?,
            restart_policy: RestartPolicy::Never,
            stop_signal: stop_signal(artifact),
            stop_grace_ms: self.grace.ms,
            healthy_after_ms: 0,
            health_deadline_ms: 0,
            probes: None,
            container: (runtime == Runtime::Oci).then(|| self.container()),
            data: None,
        };
        Ok(Assignment {
            workload: instance.workload.clone(),
            revision: RevisionId(digest),
            attempt: Attempt(1),
            slots: vec![0],
            run,
            requires: Default::default(),
            restarts: 0,
        })
    }

    fn container(&self) -> Container {
        Container { user: self.user.clone(), read_only_root: self.read_only, ..Container::default() }
    }

    /// What was said about the other kind of artefact would be ignored, so it is refused.
    fn check_for(&self, runtime: Runtime) -> anyhow::Result<()> {
        let is = |said, flag, why| if said { Err(anyhow::anyhow!("{flag}: {why}")) } else { Ok(()) };
        match runtime {
            Runtime::Oci => {
                let why = "bounds WebAssembly; a container has --network none or host";
                is(!self.connect.is_empty(), "--connect", why)?;
                is(!self.listen.is_empty(), "--listen", why)
            }
            Runtime::Wasm => {
                let why = "is for container images; this is WebAssembly";
                is(self.image.is_some(), "--image", why)?;
                is(!self.command.is_empty(), "--command", why)?;
                is(self.user.is_some(), "--user", why)?;
                is(self.read_only, "--read-only", why)
            }
        }
    }

    /// What clap cannot see: before anything is made, so that it ends as wrong usage does.
    pub fn check(&self) -> anyhow::Result<()> {
        self.environment()?;
        self.limits()?;
        self.network_allowance()?;
        self.mount.iter().try_for_each(|m| mount(m).map(drop))
    }

    fn environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let split = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
            _ => bail!("--env {text}: must be NAME=VALUE"),
        };
        self.env.iter().map(split).collect()
    }

    fn limits(&self) -> anyhow::Result<ResourceLimits> {
        let limits = ResourceLimits {
            cpu_millis: self.cpu.millis,
            memory_bytes: self.memory.0,
            pids: self.pids,
            storage_bytes: self.storage.0,
        };
        if limits.memory_bytes < ResourceLimits::MEMORY_BYTES_MIN {
            bail!("--memory {}: at least {}", self.memory, Bytes(ResourceLimits::MEMORY_BYTES_MIN));
        }
        if limits.cpu_millis < ResourceLimits::CPU_MILLIS_MIN {
            bail!("--cpu {}: at least {}m", self.cpu, ResourceLimits::CPU_MILLIS_MIN);
        }
        if limits.pids < ResourceLimits::PIDS_MIN {
            bail!("--pids {}: at least {}", self.pids, ResourceLimits::PIDS_MIN);
        }
        Ok(limits)
    }

    fn network_allowance(&self) -> anyhow::Result<NetworkAllowance> {
        let lists = !self.connect.is_empty() || !self.listen.is_empty();
        let mode = match self.network {
            Some(Network::None) if lists => bail!("--network none contradicts --connect and --listen"),
            Some(Network::None) => NetworkMode::None,
            Some(Network::Host) => NetworkMode::Host,
            None if lists => NetworkMode::Host,
            None => NetworkMode::None,
        };
        Ok(NetworkAllowance { mode, connect: self.connect.clone(), listen: self.listen.clone() })
    }
}

/// An image may say how it wants to be asked.
fn stop_signal(artifact: &Artifact) -> String {
    let own = match artifact {
        Artifact::Image(image) => image.defaults.stop_signal.as_str(),
        Artifact::Code(_) => "",
    };
    let known = crate::instance::signal::number(own).is_some();
    if known {
        own.trim_start_matches("SIG").to_string()
    } else {
        contract::defaults::STOP_SIGNAL.to_string()
    }
}

fn mount(text: &str) -> anyhow::Result<RunMount> {
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text, false),
    };
    let Some((host, guest)) =
        paths.split_once(':').filter(|(h, g)| !h.is_empty() && !g.is_empty() && !g.contains(':'))
    else {
        bail!("--mount {text}: must be HOST:GUEST or HOST:GUEST:ro");
    };
    let host = std::fs::canonicalize(host).with_context(|| format!("--mount {text}: {host}"))?;
    let path = host.to_str().with_context(|| format!("--mount {text}: the path is not UTF-8"))?.to_string();
    Ok(RunMount { from: MountSource::HostPath { path }, path: guest.to_string(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: TryArgs,
    }

    fn parsed(line: &[&str]) -> TryArgs {
        Cli::parse_from([&["try"], line].concat()).args
    }

    fn assigned(line: &[&str]) -> anyhow::Result<Assignment> {
        let args = parsed(&[&["/bin/sh"], line].concat());
        args.assignment(&args.instance(), &Artifact::from(&args.artifact))
    }

    #[test]
    fn the_arguments_become_what_a_workload_has() {
        let made = assigned(&[
            "--env",
            "A=b=c",
            "--mount",
            "/etc:/conf:ro",
            "--memory",
            "16Mi",
            "--connect",
            "h:1",
            "--",
            "-x",
            "y",
        ])
        .unwrap();
        assert_eq!(made.run.env["A"], "b=c");
        assert_eq!(made.run.args, ["-x", "y"]);
        assert_eq!(made.run.limits.memory_bytes, 16 << 20);
        assert_eq!(made.run.network.mode, NetworkMode::Host);
        assert_eq!(made.run.mounts[0].path, "/conf");
        assert!(made.run.mounts[0].read_only);
        assert_eq!(assigned(&[]).unwrap().run.limits, ResourceLimits::DEFAULT);
    }

    #[test]
    fn a_wrong_argument_is_named() {
        for (line, name) in [
            (["--env", "=x"], "--env =x"),
            (["--mount", "/etc"], "--mount /etc"),
            (["--mount", "/etc::rel"], "--mount /etc::rel"),
            (["--mount", "/etc:"], "--mount /etc:"),
            (["--mount", "/nonexistent:/x"], "/nonexistent"),
            (["--memory", "1Mi"], "at least 8Mi"),
            (["--cpu", "1m"], "at least 10m"),
            (["--pids", "1"], "at least 2"),
        ] {
            let text = format!("{:#}", assigned(&line).unwrap_err());
            assert!(text.contains(name), "{line:?}: {text}");
        }
        assert!(assigned(&["--network", "none", "--listen", "80"]).is_err());
    }

    #[test]
    fn any_file_name_makes_a_legal_instance() {
        for (file, name) in [("a/My_App.v2.wasm", "my-app-v2"), ("--", "guest"), ("ü.wasm", "guest")] {
            let args = TryArgs { artifact: file.into(), ..parsed(&["x"]) };
            assert_eq!(args.instance().workload.name.as_str(), name);
        }
    }
}
