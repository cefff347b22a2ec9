//! Runtimes: ours, crun and runc, which are handed a directory and a specification.
//!
//! Ours mounts an overlay with a bounded writable layer and applies Docker's filter. Theirs stand there twice: as they
//! come, on a plain directory without a filter, and with podman's default filter and an overlay, which is mounted
//! and unmounted around them by the command that starts them.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{Value, binary, json};

use super::Runner;
use super::place::{Account, GROUP, Place, done};

/// Docker's default as podman brings it (package golang-github-containers-common).
const PROFILE: &str = "/usr/share/containers/seccomp.json";

struct Runtime {
    id: &'static str,
    program: String,
    args: Vec<String>,
}

impl Runner for Runtime {
    fn id(&self) -> &'static str {
        self.id
    }

    fn once(&mut self, account: &Account) -> Result<(), String> {
        done(account.command(&self.program).args(&self.args)).map(drop)
    }
}

pub fn found(place: &Place) -> Vec<Result<Box<dyn Runner>, String>> {
    let mut all: Vec<Result<Box<dyn Runner>, String>> = vec![Ok(Box::new(ours(place)))];
    for (id, same, program) in [("crun", "crun-same", "crun"), ("runc", "runc-same", "runc")] {
        all.push(theirs(place, id, program, None).map(|r| Box::new(r) as Box<dyn Runner>));
        let filter = filter();
        let with = filter.and_then(|filter| theirs(place, same, program, Some(filter)));
        all.push(with.map(|r| Box::new(r) as Box<dyn Runner>));
    }
    all
}

fn ours(place: &Place) -> Runtime {
    let dir = place.dir.join("ours");
    fs::create_dir_all(&dir).expect("a directory");
    let job = json!({
        "settings": {"id": "bench", "command": ["/bin/true"], "seccomp": "default", "network": "none",
            "limits": {"memoryBytes": 64 << 20, "cpuMillis": 2000, "pids": 32},
            "cgroupsPath": format!("{GROUP}/ours/c"), "writable": {"memory": {"sizeBytes": 1 << 20}}},
        "image": {}, "layers": [place.root()], "bundle": dir.join("bundle"), "state": dir.join("state"),
    });
    let path = dir.join("job.json");
    fs::write(&path, job.to_string()).expect("a file");
    Runtime {
        id: "ours",
        program: binary("oci-run").display().to_string(),
        args: vec![path.display().to_string()],
    }
}

/// runc's own default specification, with our limits.
fn theirs(place: &Place, id: &'static str, program: &str, filter: Option<Value>) -> Result<Runtime, String> {
    let bundle = place.dir.join(id);
    fs::create_dir_all(&bundle).expect("a directory");
    done(std::process::Command::new("runc").arg("spec").current_dir(&bundle))?;
    done(std::process::Command::new(program).arg("--version"))?;
    let path = bundle.join("config.json");
    let text = fs::read(&path).expect("runc has written it");
    let mut spec: Value = serde_json::from_slice(&text).expect("JSON");
    spec["root"]["path"] = json!(if filter.is_some() { bundle.join("upper/root") } else { place.root() });
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/true"]);
    spec["linux"]["cgroupsPath"] = format!("{GROUP}/{id}/c").into();
    spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    spec["linux"]["resources"]["pids"] = json!({"limit": 32});
    spec["linux"]["resources"]["cpu"] = json!({"quota": 200_000, "period": 100_000});
    let same = filter.is_some();
    if let Some(filter) = filter {
        spec["linux"]["seccomp"] = filter;
    }
    fs::write(&path, spec.to_string()).expect("a file");
    let of = |path: PathBuf| path.display().to_string();
    let run =
        ["--root".into(), of(place.dir.join("theirs")), "run".into(), "--bundle".into(), of(bundle.clone())];
    let args = run.into_iter().chain([id.to_string()]).collect();
    Ok(if same {
        mounted(id, program, args, &bundle, &place.root())
    } else {
        Runtime { id, program: program.into(), args }
    })
}

/// As small as it can be: busybox does the mounts in one process.
fn mounted(id: &'static str, program: &str, args: Vec<String>, bundle: &Path, root: &Path) -> Runtime {
    let (at, root) = (bundle.join("upper"), root.display());
    let at = at.display();
    let line = format!(
        "mkdir -p {at}; mount -t tmpfs -o size=1m tmpfs {at}; mkdir {at}/root {at}/data {at}/work; \
         mount -t overlay -o lowerdir={root},upperdir={at}/data,workdir={at}/work,volatile overlay {at}/root; \
         {program} {}; status=$?; umount {at}/root {at}; exit $status",
        args.join(" ")
    );
    Runtime { id, program: "busybox".into(), args: vec!["sh".into(), "-c".into(), line] }
}

/// What the profile allows to everybody here; it says more, by capability and kernel.
fn filter() -> Result<Value, String> {
    let text = fs::read(PROFILE).map_err(|e| format!("crun and runc with a filter: {PROFILE}: {e}"))?;
    let profile: Value = serde_json::from_slice(&text).map_err(|e| format!("{PROFILE}: {e}"))?;
    let (own, architecture) = match cfg!(target_arch = "x86_64") {
        true => ("amd64", "SCMP_ARCH_X86_64"),
        false => ("arm64", "SCMP_ARCH_AARCH64"),
    };
    let none = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let plain = profile["syscalls"].as_array().into_iter().flatten().filter(|rule| {
        let (includes, arches) = (&rule["includes"], &rule["includes"]["arches"]);
        let here = none(arches) || arches.as_array().is_some_and(|all| all.contains(&own.into()));
        rule["action"] == "SCMP_ACT_ALLOW" && none(&rule["args"]) && none(&includes["caps"]) && here
    });
    let rules: Vec<_> = plain.map(|rule| json!({"names": rule["names"], "action": rule["action"]})).collect();
    Ok(json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": [architecture], "syscalls": rules}))
}
