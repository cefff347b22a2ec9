//! `hub cp`: files out of a container, or into it. A tar travels; the program at the other end makes or reads it, so
//! that the image needs none. What a container sends is not trusted: see `oci::copy`.

use std::io::{IsTerminal as _, PipeReader, PipeWriter, Write as _, pipe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use contract::quantity::Bytes;
use oci::copy::{Copied, CopyError, Links, open_dir, pack, unpack};

use super::connect;
use super::streams::{self, Ended, Piece, Taker};
use super::target::{self, Target};
use crate::api::session::{Ask, What};
use crate::cli::client::Client;
use crate::cli::exit::{Code, Done, Failure};
use crate::cli::style::size;

/// A terminal is told so often how far it is.
const TOLD_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hub cp press:/var/log/press ./log          a directory, into ./log (or as ./log/press, if that is there)
  hub cp ./settings.toml press/0:/etc/       a file, into a directory
  hub cp plant/press@board-1:/etc/hosts .
Files, directories and symbolic links, with permissions and times; owners are not copied. Out of a container,
links that lead out of what is copied are left out, by name. Ends with 1 when anything was left out.")]
pub struct CpArgs {
    /// A local path, or INSTANCE:/path
    from: String,
    /// A local path, or INSTANCE:/path
    to: String,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Out of a container: how much of this machine's disk it may take at most
    #[arg(long, value_name = "BYTES", default_value = "4Gi")]
    limit: Bytes,
}

/// In a container: whose, and where.
type Remote = (Target, String);

pub fn cp(client: &Client, args: &CpArgs) -> Done<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match (remote(&args.from)?, remote(&args.to)?) {
        (Some((target, path)), None) => {
            let ask = ask(args, target, What::CopyOut { path: path.clone() });
            runtime.block_on(out(client, &ask, &path, Path::new(&args.to), args.limit))
        }
        (None, Some((target, path))) => {
            let ask = ask(args, target, What::CopyIn { path });
            runtime.block_on(into(client, &ask, Path::new(&args.from)))
        }
        (Some(_), Some(_)) => {
            Err(Failure::usage("one side is a container, the other is here: copy it here first, then there"))
        }
        (None, None) => Err(Failure::usage(
            "neither side names a container: write [namespace/]workload[/slot][@agent]:/path for it",
        )),
    }
}

/// `INSTANCE:/path`; what begins with `/` or `.` is a path here, whatever it holds.
fn remote(text: &str) -> Done<Option<Remote>> {
    match text.split_once(':') {
        Some((name, path)) if !name.starts_with(['/', '.']) => {
            if !path.starts_with('/') {
                let right = format!("{name}:/{path}");
                return Err(Failure::usage(format!(
                    "'{text}': a container's path is absolute, such as {right}"
                )));
            }
            Ok(Some((target::parse(name)?, path.to_string())))
        }
        _ => Ok(None),
    }
}

fn ask(args: &CpArgs, target: Target, what: What) -> Ask {
    let namespace = args.namespace.clone();
    Ask { workload: target.workload, namespace, slot: target.slot, agent: target.agent, what }
}

async fn out(client: &Client, ask: &Ask, path: &str, to: &Path, limit: Bytes) -> Done<ExitCode> {
    let place = Place::of(path, to)?;
    let stream = connect::connect(client, ask).await?;
    let (reader, mut writer) = pipe()?;
    let unpacking = std::thread::spawn(move || place.unpack(reader, limit));
    let taker = Taker::new(move |piece| match piece {
        Piece::Output(bytes) => writer.write_all(&bytes),
        Piece::Error(bytes) => std::io::stderr().lock().write_all(&bytes),
    });
    let ended = streams::carry(stream, None, &taker, false).await;
    let written = taker.finish();
    told(ended, written, unpacking)
}

async fn into(client: &Client, ask: &Ask, from: &Path) -> Done<ExitCode> {
    let whole = std::path::absolute(from)?;
    let name = whole.file_name().map_or("root".into(), |n| n.to_string_lossy().into_owned());
    std::fs::metadata(from).map_err(|e| Failure::usage(format!("{}: {e}", from.display())))?;
    let stream = connect::connect(client, ask).await?;
    let (reader, writer) = pipe()?;
    let packing = std::thread::spawn(move || pack_into(&whole, &name, writer));
    let taker = Taker::stdio();
    let ended = streams::carry(stream, Some(streams::give(reader)), &taker, false).await;
    let written = taker.finish();
    told(ended, written, packing)
}

fn pack_into(path: &Path, name: &str, writer: PipeWriter) -> Result<Copied, CopyError> {
    let mut shown = Shown::default();
    let copied =
        pack(path, name, std::io::BufWriter::with_capacity(64 << 10, writer), &mut |c, p| shown.tell(c, p));
    shown.end();
    copied
}

/// Where what comes is put, and under which name: never under one that the container chose.
struct Place {
    above: PathBuf,
    name: String,
}

impl Place {
    fn of(path: &str, to: &Path) -> Done<Place> {
        let wrong = |why: &str| Failure::usage(format!("{}: {why}", to.display()));
        let theirs = Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned());
        let ends_open = to.as_os_str().as_encoded_bytes().ends_with(b"/");
        if to.is_dir() {
            let name = theirs.ok_or_else(|| wrong("name a new directory for all of a container's root"))?;
            return Ok(Place { above: to.into(), name });
        }
        if ends_open {
            return Err(wrong("there is no such directory"));
        }
        let name = to.file_name().ok_or_else(|| wrong("name a file or a directory"))?;
        let above = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !above.is_dir() {
            return Err(wrong("the directory that it would be in is not there"));
        }
        Ok(Place { above: above.into(), name: name.to_string_lossy().into_owned() })
    }

    fn unpack(self, reader: PipeReader, limit: Bytes) -> Result<Copied, CopyError> {
        let mut shown = Shown::default();
        let above = open_dir(&self.above)?;
        let copied =
            unpack(reader, above, Some(&self.name), Links::Inside, limit.0, &mut |c, p| shown.tell(c, p));
        shown.end();
        copied
    }
}

/// Which of three that may have failed is the cause of the others.
fn told(ended: Done<Ended>, written: Done, ours: JoinHandle<Result<Copied, CopyError>>) -> Done<ExitCode> {
    let ours = ours.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let theirs_failed = matches!(&ended, Ok(Ended { code: 1.., .. }));
    let is_cause = |e: &CopyError| match e {
        CopyError::File { .. } | CopyError::TooMuch { .. } => true,
        CopyError::Refused { .. } => !theirs_failed,
        CopyError::Tar(_) | CopyError::Stream(_) => false,
    };
    let ours = ours.map_err(|e| (is_cause(&e), e));
    match (ended, ours) {
        (_, Err((true, e))) => Err(Failure::new(Code::Failed, chain(&e))),
        (Err(failure), _) => Err(failure),
        // It said why, on its own.
        (Ok(Ended { code: 1.., why }), ours) => {
            if !why.is_empty() {
                eprintln!("hub cp: {why}");
            }
            ours.iter().flat_map(|copied| &copied.notes).for_each(|note| eprintln!("{note}"));
            Ok(ExitCode::FAILURE)
        }
        (Ok(_), Err((_, e))) => Err(Failure::new(Code::Failed, chain(&e))),
        (Ok(_), Ok(copied)) => {
            written?;
            copied.notes.iter().for_each(|note| eprintln!("{note}"));
            Ok(if copied.left_out() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn chain(e: &CopyError) -> String {
    let more = if matches!(e, CopyError::TooMuch { .. }) { " (--limit allows more)" } else { "" };
    sources(e) + more
}

fn sources(e: &dyn std::error::Error) -> String {
    match e.source() {
        Some(source) => format!("{e}: {}", sources(source)),
        None => e.to_string(),
    }
}

/// One line on a terminal, written over and over.
#[derive(Default)]
struct Shown {
    last: Option<Instant>,
}

impl Shown {
    fn tell(&mut self, copied: &Copied, path: &[u8]) {
        if self.last.is_some_and(|last| last.elapsed() < TOLD_EVERY) || !std::io::stderr().is_terminal() {
            return;
        }
        self.last = Some(Instant::now());
        // What a container named may not move anybody's cursor.
        let name: String =
            String::from_utf8_lossy(path).chars().filter(|c| !c.is_control()).take(60).collect();
        eprint!("\r\x1b[K{} files, {}  {name}", copied.files, size(copied.bytes));
    }

    fn end(&self) {
        if self.last.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_side_is_a_container() {
        assert!(remote("press:/etc").unwrap().is_some() && remote("a/press/0@b:/").unwrap().is_some());
        for local in ["press", "./a:/b", "/a:/b", "../x:/y", "."] {
            assert!(remote(local).unwrap().is_none(), "{local}");
        }
        assert!(remote("press:etc").is_err());
    }

    #[test]
    fn a_name_is_never_the_containers() {
        let tmp = tempfile::tempdir().unwrap();
        let of = |path: &str, to: &str| Place::of(path, &tmp.path().join(to)).map(|p| (p.above, p.name));
        assert_eq!(of("/etc/hosts", "").unwrap(), (tmp.path().join(""), "hosts".into()));
        assert_eq!(of("/etc/hosts", "mine").unwrap(), (tmp.path().into(), "mine".into()));
        assert!(of("/", "").is_err() && of("/etc", "new/").is_err() && of("/etc", "none/x").is_err());
        assert!(of("/..", "").is_err());
    }
}
