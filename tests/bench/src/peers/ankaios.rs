//! Ankaios: a server and an agent of its own, on loopback, with podman under it.

use std::process::Command;

use e2e::{Process, eventually, free_port};

use super::{Peer, image, output};

const AGENT: &str = "agent_A";

pub struct Ankaios {
    server: Process,
    agent: Process,
    url: String,
    image: String,
    dir: tempfile::TempDir,
}

pub fn find() -> Result<Ankaios, String> {
    for (program, flag) in [
        ("ank", "--version"),
        ("ank-server", "--version"),
        ("ank-agent", "--version"),
        ("podman", "--version"),
    ] {
        output(program, &[flag]).map_err(|_| format!("Ankaios, {program} is not installed"))?;
    }
    let image = image();
    output("podman", &["image", "exists", &image])
        .map_err(|_| format!("Ankaios, podman has no image {image}"))?;
    let dir = tempfile::Builder::new()
        .prefix("skerry-bench-")
        .tempdir()
        .map_err(|why| format!("Ankaios, {why}"))?;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new("ank-server");
    command.args(["--insecure", "--address", &format!("127.0.0.1:{port}")]);
    let server = Process::spawn(command, &dir.path().join("server.log"));
    let mut command = Command::new("ank-agent");
    command.args(["--insecure", "--name", AGENT, "--server-url", &url]);
    command.arg("--run-folder").arg(dir.path().join("run"));
    let agent = Process::spawn(command, &dir.path().join("agent.log"));
    let peer = Ankaios { server, agent, url, image, dir };
    let ready = eventually(std::time::Duration::from_secs(10), || {
        peer.ank(&["get", "agents"]).is_ok_and(|text| text.contains(AGENT))
    });
    if ready { Ok(peer) } else { Err(format!("Ankaios, its agent did not come up: {}", peer.agent.tail())) }
}

impl Ankaios {
    fn ank(&self, args: &[&str]) -> Result<String, String> {
        let fixed = ["--insecure", "--server-url", &self.url];
        output("ank", &fixed.into_iter().chain(args.iter().copied()).collect::<Vec<_>>())
    }
}

impl Peer for Ankaios {
    fn name(&self) -> &'static str {
        "Ankaios"
    }

    fn id(&self) -> &'static str {
        "ankaios"
    }

    fn apply(&mut self, workload: &str) -> Result<(), String> {
        let file = self.dir.path().join("workload.yaml");
        let image = &self.image;
        let text = format!(
            "apiVersion: v1\nworkloads:\n  {workload}:\n    runtime: podman\n    agent: {AGENT}\n    restartPolicy: ALWAYS\n    runtimeConfig: |\n      image: {image}\n      commandOptions: [\"--network\", \"none\", \"--stop-timeout\", \"0\"]\n      commandArgs: [\"sleep\", \"1000000\"]\n"
        );
        std::fs::write(&file, text).map_err(|why| why.to_string())?;
        self.ank(&["apply", "--no-wait", &file.display().to_string()]).map(drop)
    }

    fn pid(&self, workload: &str) -> Option<u32> {
        let filter = format!("name=^{workload}\\.");
        let pids = output("podman", &["ps", "--filter", &filter, "--format", "{{.Pid}}"]).ok()?;
        pids.lines().next()?.parse().ok().filter(|pid| *pid != 0)
    }

    fn delete(&mut self, workload: &str) -> Result<(), String> {
        self.ank(&["delete", "workload", workload]).map(drop)
    }
}

impl Drop for Ankaios {
    fn drop(&mut self) {
        self.agent.kill();
        self.server.kill();
    }
}
