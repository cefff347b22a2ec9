//! `edge-agent logs`: reads the files, so it works when the agent is dead.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use contract::quantity::Duration;
use contract::{InstanceId, RunId};
use rustix::event::{PollFd, PollFlags, poll};

use super::format::unix_ms;
use super::{Follow, Origin, Query, Record, read, runs};

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// <namespace>/<workload>/<slot>; as much of it as names one instance is enough, such as <workload>
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Go on with what comes, over restarts too, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Only lines of the last so long, such as 90s, 10m or 2h
    #[arg(long, value_name = "DURATION")]
    since: Option<Duration>,
    /// The run before the present one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Show when each line was written (UTC)
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    place: crate::cli::StateDir,
}

pub fn main(args: LogsArgs) -> anyhow::Result<()> {
    let dir = find(&args.place.state_dir.join("logs"), &args.instance)?;
    let run = choose_run(&dir, &args)?;
    // Before the past is read, so that nothing falls in between.
    let follow = args.follow.then(|| Follow::from_end(&dir, Some(run))).transpose()?;
    let since_unix_ms = args.since.map(|d| unix_ms().saturating_sub(d.ms));
    let query = Query { tail: args.tail, since_unix_ms };
    let past = read(&dir, run, &query).with_context(|| dir.display().to_string())?;
    let mut out = io::stdout().lock();
    show(&mut out, &past, args.timestamps)?;
    match follow {
        Some(follow) => Ok(go_on(follow, &mut out, args.timestamps)?),
        None => Ok(()),
    }
}

fn choose_run(dir: &Path, args: &LogsArgs) -> anyhow::Result<RunId> {
    let runs = runs(dir)?;
    let back = usize::from(args.previous) + 1;
    match runs.len().checked_sub(back) {
        Some(at) => Ok(runs[at]),
        None if args.previous => bail!("{} has no log of a previous run", args.instance),
        None => bail!("{} has not said anything yet", args.instance),
    }
}

/// The log directory of the one instance that `wanted` names.
fn find(log_dir: &Path, wanted: &str) -> anyhow::Result<PathBuf> {
    let mut known = Vec::new();
    match std::fs::read_dir(log_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| log_dir.display().to_string()),
        Ok(entries) => {
            for entry in entries {
                known.extend(InstanceId::from_file_name(&entry?.file_name().to_string_lossy()).ok());
            }
        }
    }
    known.sort();
    let matching: Vec<_> = known.iter().filter(|id| names(wanted, id)).collect();
    match matching.as_slice() {
        [one] => Ok(log_dir.join(one.file_name())),
        [] if known.is_empty() => bail!("no instance has a log in {}", log_dir.display()),
        [] => bail!("no instance '{wanted}' has a log here; there are {}", list(known.iter())),
        several => bail!("'{wanted}' may be any of {}", list(several.iter().copied())),
    }
}

/// Whether this is what somebody means who writes as much as is enough.
pub(crate) fn names(wanted: &str, id: &InstanceId) -> bool {
    let (full, key) = (id.to_string(), id.workload.to_string());
    let without_namespace = format!("{}/{}", id.workload.name, id.slot);
    [full.as_str(), &key, &without_namespace, id.workload.name.as_str()].contains(&wanted)
}

fn list<'a>(ids: impl Iterator<Item = &'a InstanceId>) -> String {
    ids.take(20).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn go_on(mut follow: Follow, out: &mut impl Write, timestamps: bool) -> io::Result<()> {
    loop {
        show(out, &follow.news()?, timestamps)?;
        poll(&mut [PollFd::from_borrowed_fd(follow.as_fd(), PollFlags::IN)], None)?;
    }
}

fn show(out: &mut impl Write, records: &[Record], timestamps: bool) -> io::Result<()> {
    for record in records {
        if timestamps {
            write!(out, "{} ", record.unix_ms.map_or_else(|| "-".into(), utc))?;
        }
        if record.origin == Origin::Skerry && record.unix_ms.is_some() {
            out.write_all(b"[skerry] ")?;
        }
        writeln!(out, "{}", record.text)?;
    }
    out.flush()
}

/// `2026-11-20T11:38:51.123Z`, by Howard Hinnant's days-to-civil.
pub fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(utc(1_795_174_731_001), "2026-11-20T11:38:51.001Z");
    }

    #[test]
    fn an_instance_is_named_by_what_is_enough() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(find(tmp.path(), "press").unwrap_err().to_string().contains("no instance has a log"));
        for name in ["plant.press.0", "plant.press.1", "plant.web.0", "lab.web.0"] {
            std::fs::create_dir(tmp.path().join(name)).unwrap();
        }
        let found = |wanted| find(tmp.path(), wanted).map(|p| p.file_name().unwrap().to_owned());
        assert_eq!(found("press/1").unwrap(), "plant.press.1");
        assert_eq!(found("plant/web").unwrap(), "plant.web.0");
        let several = found("web").unwrap_err().to_string();
        assert!(several.contains("lab/web/0, plant/web/0"), "{several}");
        assert!(found("nope").unwrap_err().to_string().contains("plant/press/0"));
    }
}
