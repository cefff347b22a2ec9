//! A development tool: `oci-run JOB.json` runs one container in the foreground as a shim would, for the
//! tests and for measuring. How it ended goes to `ended.json` beside the job.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde::Deserialize;
use skerry_oci::image::Defaults;
use skerry_oci::layer::Rootfs;
use skerry_oci::run::{Container, Ended, Place, Settings, Streams};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    settings: Settings,
    image: Defaults,
    /// The lowest first.
    layers: Vec<PathBuf>,
    bundle: PathBuf,
    state: PathBuf,
    /// Sent in this order, each so many milliseconds after the one before.
    #[serde(default)]
    signals: Vec<(u64, i32)>,
    /// For the test of what is refused.
    #[serde(default)]
    second_thread: bool,
}

/// "Could not start", as `docker run` and `env` have it.
const CANNOT_START: u8 = 125;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: oci-run JOB.json");
        return ExitCode::from(2);
    };
    match run(&path) {
        Ok(ended) => {
            let text = format!(
                r#"{{"code":{},"signal":{},"oomKills":{}}}"#,
                ended.code,
                ended.signal.unwrap_or(0),
                ended.oom_kills
            );
            std::fs::write(path.with_file_name("ended.json"), text).expect("the job's directory is there");
            ExitCode::from(ended.code as u8)
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn run(path: &Path) -> Result<Ended, String> {
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let job: Job = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    if job.second_thread {
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
    }
    let rootfs = Rootfs { layers: job.layers, notes: Vec::new() };
    let place = Place { bundle: job.bundle, state: job.state, neighbours: None };
    let mut container =
        Container::create(&job.settings, &job.image, &rootfs, &place, streams().map_err(|e| e.to_string())?)
            .map_err(|e| chain(&e))?;
    container.start().map_err(|e| chain(&e))?;
    for (after_ms, number) in job.signals {
        if !ends_within(&container, after_ms) {
            let signal = Signal::from_named_raw(number).ok_or("no such signal")?;
            container.signal(signal).map_err(|e| chain(&e))?;
        }
    }
    let ended = container.wait().map_err(|e| chain(&e))?;
    container.delete().map_err(|e| chain(&e))?;
    Ok(ended)
}

fn ends_within(container: &Container, millis: u64) -> bool {
    let wait = Timespec { tv_sec: (millis / 1000) as i64, tv_nsec: (millis % 1000 * 1_000_000) as _ };
    poll(&mut [PollFd::new(&container.pidfd(), PollFlags::IN)], Some(&wait)).is_ok_and(|n| n > 0)
}

fn streams() -> std::io::Result<Streams> {
    Ok(Streams {
        stdin: File::open("/dev/null")?.into(),
        stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
        stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
