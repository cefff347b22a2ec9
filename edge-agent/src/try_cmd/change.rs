//! When a file was written anew: inotify on its directory, because tools replace files by renaming.

use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::time::{Duration, timeout};

/// A linker writes in several steps: one that is quiet for so long is done.
const QUIET: Duration = Duration::from_millis(150);

pub struct Change {
    notify: AsyncFd<OwnedFd>,
    name: OsString,
}

impl Change {
    pub fn of(path: &Path) -> anyhow::Result<Change> {
        let named = || path.display().to_string();
        let whole = std::path::absolute(path).with_context(named)?;
        let (dir, name) = whole.parent().zip(whole.file_name()).with_context(named)?;
        let notify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let changes = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&notify, dir, changes).with_context(named)?;
        Ok(Change { notify: crate::instance::readable(notify)?, name: name.to_owned() })
    }

    /// Returns after the file changed and was quiet for a moment.
    pub async fn next(&mut self) -> anyhow::Result<()> {
        while !self.notices().await? {}
        while let Ok(more) = timeout(QUIET, self.notices()).await {
            more?;
        }
        Ok(())
    }

    /// Waits for notices and tells whether one is about our file.
    async fn notices(&mut self) -> anyhow::Result<bool> {
        let mut ready = self.notify.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(ready.get_inner(), &mut buffer);
        let mut ours = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|n| n.to_bytes());
                    ours |= name == Some(self.name.as_encoded_bytes());
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(e) => return Err(e.into()),
            }
        }
        ready.clear_ready();
        Ok(ours)
    }
}
