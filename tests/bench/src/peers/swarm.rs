//! Docker Swarm: a manager that is already running here.

use super::{Peer, image, output};

pub struct Swarm {
    image: String,
}

pub fn find() -> Result<Swarm, String> {
    let state = output("docker", &["info", "--format", "{{.Swarm.LocalNodeState}}"]).map_err(|why| {
        format!("Docker Swarm, no daemon answers ({})", why.lines().next_back().unwrap_or_default())
    })?;
    if state != "active" {
        return Err(format!("Docker Swarm, docker is no swarm here ({state}): docker swarm init"));
    }
    let image = image();
    output("docker", &["image", "inspect", &image])
        .map_err(|_| format!("Docker Swarm, the image {image} is not there"))?;
    Ok(Swarm { image })
}

impl Peer for Swarm {
    fn name(&self) -> &'static str {
        "Docker Swarm"
    }

    fn id(&self) -> &'static str {
        "swarm"
    }

    fn apply(&mut self, workload: &str) -> Result<(), String> {
        // At its quickest: without its default pause of 5 s before a restart.
        let fixed =
            ["service", "create", "--detach", "--no-resolve-image", "--restart-delay", "0s", "--name"];
        let args: Vec<&str> = fixed.into_iter().chain([workload, &self.image, "sleep", "1000000"]).collect();
        output("docker", &args).map(drop)
    }

    fn pid(&self, workload: &str) -> Option<u32> {
        let label = format!("label=com.docker.swarm.service.name={workload}");
        let ids = output("docker", &["ps", "--quiet", "--filter", &label]).ok()?;
        let pid = output("docker", &["inspect", "--format", "{{.State.Pid}}", ids.lines().next()?]).ok()?;
        pid.parse().ok().filter(|pid| *pid != 0)
    }

    fn delete(&mut self, workload: &str) -> Result<(), String> {
        output("docker", &["service", "rm", workload]).map(drop)
    }
}
