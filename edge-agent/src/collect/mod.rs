//! `edge-agent collect`: one tar with what a person needs to find a fault on a board. Bounded in size and
//! time, asks the agent and opens no store. No secrets: no key or token file is read, and the variables of
//! workloads are left out; what workloads said is in it only when asked for.

mod parts;
mod tar;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::check::BoardArgs;

/// One part; more is cut, and the list says so.
const PART_BYTES_MAX: usize = 1 << 20;
/// All of them.
const BUNDLE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Args)]
pub struct CollectArgs {
    #[command(flatten)]
    board: BoardArgs,
    /// Where to write it; it must not be there yet
    #[arg(long, value_name = "FILE", default_value = "skerry-board.tar")]
    file: PathBuf,
    /// With the last lines of what each workload said: look for secrets in them before you hand it on
    #[arg(long)]
    with_logs: bool,
}

pub struct Part {
    pub name: String,
    pub bytes: Vec<u8>,
    /// What it is, for the list.
    pub about: &'static str,
}

pub fn main(args: CollectArgs) -> anyhow::Result<ExitCode> {
    let mut parts = parts::all(&args.board, args.with_logs);
    let list = bound(&mut parts);
    let mut bundle = tar::Tar::default();
    bundle.add("CONTENTS", list.as_bytes());
    parts.iter().for_each(|part| bundle.add(&part.name, &part.bytes));
    let shown = args.file.display().to_string();
    let file = File::options().create_new(true).write(true).mode(0o600).open(&args.file);
    let mut file = file.with_context(|| format!("--file: cannot make {shown}"))?;
    file.write_all(&bundle.finish()).with_context(|| format!("cannot write {shown}"))?;
    print!("{list}");
    println!("\n{shown}: {} parts. No key, token or variable of a workload is in it.", parts.len());
    Ok(ExitCode::SUCCESS)
}

/// Cuts what is too long, at the front: the last words count. The list of what is left.
fn bound(parts: &mut Vec<Part>) -> String {
    let (mut list, mut all) = (String::new(), 0);
    parts.retain_mut(|part| {
        let whole = part.bytes.len();
        let keep = whole.min(PART_BYTES_MAX).min(BUNDLE_BYTES_MAX - all);
        part.bytes.drain(..whole - keep);
        all += keep;
        let cut = if keep < whole { format!(" (the last of {whole} bytes)") } else { String::new() };
        list += &format!("{:<32} {keep:>8}  {}{cut}\n", part.name, part.about);
        keep > 0 || whole == 0
    });
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_the_bundle_are_bounded() {
        let part = |n: usize| Part { name: format!("p{n}"), bytes: vec![b'x'; 3 << 20], about: "x" };
        let mut parts: Vec<_> = (0..40).map(part).collect();
        let list = bound(&mut parts);
        assert_eq!(parts.iter().map(|p| p.bytes.len()).sum::<usize>(), BUNDLE_BYTES_MAX);
        assert!(list.contains("the last of 3145728 bytes"), "{list}");
    }
}
