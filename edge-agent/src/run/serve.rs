//! How an accepted command is answered. Replies leave through a small channel that the
//! loop empties only while the session has room, so that a talkative log never crowds out a report.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use contract::limits::{PROGRESS_BYTES_MAX, REPLY_BYTES_MAX};
use contract::message::{Command, CommandOp, LogQuery, Reply, ReplyBody};
use contract::{Name, RunId};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;

use super::http;
use super::session::session;
use crate::instance::record::RunDir;
use crate::logs::{self, Follow, Origin, Query, Record};
use crate::session::Order;

/// Where served commands find what they need.
#[derive(Clone)]
pub struct ServeConfig {
    pub logs: PathBuf,
    pub replies: Sender<Reply>,
    /// This binary again, for sessions.
    pub exe: PathBuf,
    /// The board's state, where it has joined a hub.
    pub identity: Option<PathBuf>,
}

/// Runs until the command is answered, its deadline has come, or the task is aborted (cancelled).
/// `run` is that of the instance that a session is asked for.
pub async fn serve(config: ServeConfig, command: Command, base_url: Option<String>, run: Option<RunDir>) {
    let deadline = Duration::from_millis(command.deadline_ms);
    let mut answer = Answer { replies: config.replies.clone(), id: command.id, nonce: command.nonce, seq: 0 };
    let ticket = command.ticket.zip(base_url);
    let work = async {
        match command.op {
            CommandOp::Logs(query) => logs_of(&config, query, ticket, &mut answer).await,
            // The core ends the other command; nothing is left to do here.
            CommandOp::Cancel { .. } => Ok(()),
            op @ (CommandOp::Exec(_) | CommandOp::Copy(_)) => {
                let (dir, (ticket, base_url)) = run.zip(ticket).ok_or("it does not run here any more")?;
                let identity = config.identity.clone();
                session(&config.exe, &Order { dir: dir.0, base_url, identity, ticket, op }).await
            }
        }
    };
    let error = match tokio::time::timeout(deadline, work).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(contract::limits::clip(&why)),
        Err(_) => Some(format!("not finished within {deadline:?}")),
    };
    answer.send(ReplyBody::Done { error }).await;
}

struct Answer {
    replies: Sender<Reply>,
    id: Name,
    nonce: contract::Nonce,
    seq: u32,
}

impl Answer {
    async fn send(&mut self, body: ReplyBody) {
        self.seq += 1;
        let reply = Reply { id: self.id.clone(), nonce: self.nonce, seq: self.seq, body };
        let _ = self.replies.send(reply).await; // the loop is gone: so is the session
    }

    /// Whole lines, in pieces that fit a message.
    async fn progress(&mut self, text: &str) {
        let mut piece = String::new();
        for line in text.split_inclusive('\n') {
            if piece.len() + line.len() > PROGRESS_BYTES_MAX && !piece.is_empty() {
                self.send(ReplyBody::Progress { text: std::mem::take(&mut piece) }).await;
            }
            piece.push_str(line);
        }
        if !piece.is_empty() {
            self.send(ReplyBody::Progress { text: piece }).await;
        }
    }
}

async fn logs_of(
    config: &ServeConfig,
    query: LogQuery,
    ticket: Option<(String, String)>,
    answer: &mut Answer,
) -> Result<(), String> {
    let dir = config.logs.join(query.instance.file_name());
    let run = choose_run(&dir, query.previous)?;
    // Before the past is read, so that nothing falls in between.
    let follow =
        query.follow.then(|| Follow::from_end(&dir, run)).transpose().map_err(|why| why.to_string())?;
    let since_unix_ms = query.since_ms.map(|ms| unix_ms().saturating_sub(ms));
    let past = match run {
        Some(run) => logs::read(&dir, run, &Query { tail: query.tail.map(|n| n as usize), since_unix_ms }),
        None => Ok(Vec::new()),
    };
    let past = text(&past.map_err(|why| why.to_string())?);
    match ticket {
        Some((path, base)) if past.len() > REPLY_BYTES_MAX && follow.is_none() => {
            http::put(&base, &path, Bytes::from(past)).await.map_err(|why| why.to_string())?;
        }
        _ => answer.progress(&past).await,
    }
    match follow {
        Some(follow) => go_on(follow, answer).await,
        None => Ok(()),
    }
}

fn choose_run(dir: &std::path::Path, previous: bool) -> Result<Option<RunId>, String> {
    let runs = logs::runs(dir).map_err(|why| why.to_string())?;
    let back = usize::from(previous) + 1;
    match runs.len().checked_sub(back) {
        Some(at) => Ok(Some(runs[at])),
        None if previous => Err("there is no log of a previous run".to_string()),
        None => Ok(None),
    }
}

async fn go_on(follow: Follow, answer: &mut Answer) -> Result<(), String> {
    let mut follow = FollowFd(follow);
    let news = follow.0.news().map_err(|why| why.to_string())?;
    answer.progress(&text(&news)).await;
    // SAFETY: the inotify descriptor stays open, and its own, for as long as `follow` lives.
    let mut watched = unsafe { AsyncFd::register(follow) }.map_err(|why| why.to_string())?;
    loop {
        let mut ready = watched.readable_mut().await.map_err(|why| why.to_string())?;
        let news = ready.get_inner_mut().0.news().map_err(|why| why.to_string())?;
        ready.clear_ready();
        answer.progress(&text(&news)).await;
    }
}

struct FollowFd(Follow);

impl std::os::fd::AsRawFd for FollowFd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0.as_fd())
    }
}

/// One line each: `<unix ms> <o|e|s> text`, as in the file, so that the reader can choose.
fn text(records: &[Record]) -> String {
    let tag = |origin| match origin {
        Origin::Stdout => 'o',
        Origin::Stderr => 'e',
        Origin::Skerry => 's',
    };
    records.iter().map(|r| format!("{} {} {}\n", r.unix_ms.unwrap_or(0), tag(r.origin), r.text)).collect()
}

fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
