//! A foreign program's output, for a bounded time and of bounded size.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Nothing when it is not there, fails, or takes longer: then it is killed.
pub fn output_within(mut command: Command, limit: Duration, bytes: u64) -> Option<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let out = child.stdout.take()?;
    let (done, read) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = out.take(bytes).read_to_end(&mut text);
        let _ = done.send(text);
    });
    let text = read.recv_timeout(limit);
    // Either it has closed its output, or it is too late for it.
    let _ = child.kill();
    let _ = child.wait();
    Some(String::from_utf8_lossy(&text.ok()?).into_owned())
}
