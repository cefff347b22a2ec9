//! Server-sent events, read in a thread of their own so that the reader may also look at a clock.
//! A stream that breaks is taken up again where it was, with growing waits, for a bounded time.

use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use contract::time::backoff_ms;

use super::client::Client;
use super::exit::{Code, Done, Failure};

/// Tries before a broken stream is given up: 0.5 s doubling to 10 s, about a minute in all.
const TRIES: u32 = 10;
const LINE_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub struct SseEvent {
    pub name: String,
    pub data: String,
}

pub struct Events(Receiver<Done<SseEvent>>);

impl Events {
    /// `resume`: take a broken stream up again after the last id; else its end is the end.
    pub fn open(client: Arc<Client>, path: String, mut last_id: Option<u64>, resume: bool) -> Done<Events> {
        let first = client.stream(&path, last_id)?;
        let (sender, events) = sync_channel(64);
        std::thread::spawn(move || {
            let (mut stream, mut attempt) = (Some(first), 0);
            loop {
                if let Some(lines) = stream.take() {
                    match read(lines, &mut last_id, &mut |event| {
                        attempt = 0;
                        sender.send(Ok(event)).is_ok()
                    }) {
                        Ended::Unwanted => return,
                        Ended::Closed if !resume => return,
                        _ => {}
                    }
                }
                attempt += 1;
                if attempt > TRIES {
                    let _ = sender.send(Err(Failure::new(
                        Code::Unreachable,
                        "the hub's stream of changes broke and did not come back",
                    )));
                    return;
                }
                std::thread::sleep(Duration::from_millis(backoff_ms(500, 10_000, attempt, "watch")));
                match client.stream(&path, last_id) {
                    Ok(lines) => stream = Some(lines),
                    Err(failure) if failure.code == Code::Unreachable || failure.code == Code::Timeout => {}
                    Err(failure) => return drop(sender.send(Err(failure))),
                }
            }
        });
        Ok(Events(events))
    }

    /// `None` at the end.
    pub fn next(&self) -> Option<Done<SseEvent>> {
        self.0.recv().ok()
    }

    /// `Ok(None)`: nothing came in that time.
    pub fn next_within(&self, wait: Duration) -> Result<Option<Done<SseEvent>>, ()> {
        match self.0.recv_timeout(wait) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }
}

enum Ended {
    Closed,
    Unwanted,
}

fn read(
    mut lines: impl std::io::BufRead,
    last_id: &mut Option<u64>,
    each: &mut dyn FnMut(SseEvent) -> bool,
) -> Ended {
    let (mut name, mut data, mut line) = (String::new(), String::new(), Vec::new());
    loop {
        line.clear();
        match std::io::Read::take(&mut lines, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return Ended::Closed,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            let event = SseEvent { name: std::mem::take(&mut name), data: std::mem::take(&mut data) };
            if !event.data.is_empty() && !each(event) {
                return Ended::Unwanted;
            }
        } else if let Some((field, value)) = text.split_once(':') {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => name = value.to_string(),
                "data" if data.is_empty() => data = value.to_string(),
                "data" => data = format!("{data}\n{value}"),
                "id" => *last_id = value.parse().ok().or(*last_id),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_comments_passed_over() {
        let text = ": hello\n\nid: 7\nevent: change\ndata: {\"a\":\ndata: 1}\n\nevent: end\ndata: {}\n\n";
        let (mut id, mut seen) = (None, Vec::new());
        read(text.as_bytes(), &mut id, &mut |event| {
            seen.push((event.name, event.data));
            true
        });
        assert_eq!(id, Some(7));
        assert_eq!(seen, [("change".into(), "{\"a\":\n1}".into()), ("end".to_string(), "{}".to_string())]);
    }
}
