//! How strangers' modules are compiled: in a process of their own (`hub compile-worker`), a few at a
//! time, with bounded memory, CPU and wall time. A hostile or enormous module fails alone, by name.
//!
//! `worker` is the child's side, `ended` says what its end means, `command` is `hub compile` for people.

pub mod command;
mod ended;
pub mod worker;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use contract::limits::COMPILED_BYTES_MAX;
use contract::{Digest, quantity};
use hub_core::record::ArtifactKind;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;
use wasm::Target;

use crate::artifact::{ArtifactError, ArtifactStore, Pin};
use crate::failpoint::{self, Point};

/// Of a worker's stdout and stderr; the rest is read and thrown away.
const OUTPUT_BYTES_MAX: u64 = 16 << 10;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory_bytes: u64,
    pub cpu_secs: u64,
    /// For a worker that neither computes nor ends; also bounds waiting for a busy machine.
    pub wall: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        let cpu_secs = wasm::compile::limits::CPU_SECS_DEFAULT;
        Limits {
            memory_bytes: wasm::compile::limits::MEMORY_BYTES_DEFAULT,
            cpu_secs,
            // Workers run at low priority: on a busy machine they get a third of a core.
            wall: Duration::from_secs(cpu_secs * 3),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileFailure {
    /// The module's fault: trying again gives the same.
    #[error("{0}")]
    Refused(String),
    /// Ours.
    #[error("{0}")]
    Fault(String),
}

impl From<ArtifactError> for CompileFailure {
    fn from(e: ArtifactError) -> CompileFailure {
        match e {
            ArtifactError::TooLarge { max } => {
                CompileFailure::Refused(format!("its compiled code is larger than {}", quantity::Bytes(max)))
            }
            e => CompileFailure::Fault(e.to_string()),
        }
    }
}

/// Starts workers.
pub struct Workers {
    exe: PathBuf,
    limits: Limits,
    compiling: Semaphore,
    inspecting: Semaphore,
}

impl Workers {
    /// `exe`: the hub's own binary. One compiler for two cores, and always one: the rest of the
    /// machine belongs to the hub and perhaps to agents.
    pub fn new(exe: PathBuf, limits: Limits) -> Workers {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let compiling = Semaphore::new((cores / 2).max(1));
        Workers { exe, limits, compiling, inspecting: Semaphore::new(2) }
    }

    /// What a file is; refused when no board could run it.
    pub async fn inspect(&self, file: &Path) -> Result<ArtifactKind, CompileFailure> {
        let _turn = self.inspecting.acquire().await.expect("never closed");
        let mut command = self.command();
        command.arg(file);
        match self.run(command).await?.trim() {
            worker::MODULE => Ok(ArtifactKind::WasmModule),
            worker::COMPONENT => Ok(ArtifactKind::WasmComponent),
            other => Err(CompileFailure::Fault(format!("the worker answered '{other}'"))),
        }
    }

    /// Compile a file. `output` is made, and removed again on failure.
    pub async fn compile(&self, file: &Path, output: &Path, target: Target) -> Result<(), CompileFailure> {
        let _turn = self.compiling.acquire().await.expect("never closed");
        let mut command = self.command();
        command.arg("--target").arg(target.triple()).arg("--output").arg(output).arg(file);
        let done = self.run(command).await.map(drop);
        if done.is_err() {
            let _ = std::fs::remove_file(output);
        }
        done
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command
            .arg("compile-worker")
            .args(["--memory-bytes", &self.limits.memory_bytes.to_string()])
            .args(["--cpu-secs", &self.limits.cpu_secs.to_string()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, mut command: Command) -> Result<String, CompileFailure> {
        let start = |e| CompileFailure::Fault(format!("cannot start {}: {e}", self.exe.display()));
        let mut child = command.spawn().map_err(start)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let whole = async { tokio::join!(clipped(out), clipped(err), child.wait()) };
        let Ok((out, err, status)) = tokio::time::timeout(self.limits.wall, whole).await else {
            // Dropping the child kills it; waiting here makes sure that it is gone.
            let _ = child.kill().await;
            return Err(CompileFailure::Refused(format!("timed out after {} s", self.limits.wall.as_secs())));
        };
        let status = status.map_err(|e| CompileFailure::Fault(format!("the worker was lost: {e}")))?;
        ended::judge(status, &err, &self.limits).map(|()| out)
    }
}

/// All that is said is read, so that the child never blocks; the first part is kept.
async fn clipped(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}

/// One `Op::Compile`: from a blob to a blob.
pub async fn compile_blob(
    workers: &Workers,
    store: &ArtifactStore,
    source: Digest,
    target: Target,
) -> Result<(Pin, u64), CompileFailure> {
    failpoint::pass(Point::BeforeCompile);
    let held = store.pin(source);
    blocking({
        let store = store.clone();
        move || store.verify(&source)
    })
    .await?;
    let output = store.temporary();
    workers.compile(&store.path(&held.digest()), &output, target).await?;
    failpoint::pass(Point::AfterCompile);
    let adopted = blocking({
        let (store, output) = (store.clone(), output.clone());
        move || store.adopt(&output, COMPILED_BYTES_MAX)
    })
    .await;
    if adopted.is_err() {
        let _ = std::fs::remove_file(&output);
    }
    adopted
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, CompileFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Engine ids that this hub's workers serve.
pub fn engines() -> Vec<String> {
    Target::ALL.iter().map(|target| target.engine_id().to_string()).collect()
}
