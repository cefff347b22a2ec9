//! While an apply waits for images from other registries: how far they are, on the error output. An apply
//! that fetches nothing shows nothing.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::client::Client;
use super::sse::Events;
use super::style::{columns, fit, size};
use crate::fetch::FetchView;

/// Most applies are done before anybody would read a line.
const PATIENCE: Duration = Duration::from_millis(400);

/// Shows until it is ended.
pub struct Fetching(Sender<()>, std::thread::JoinHandle<()>);

impl Fetching {
    pub fn watch(client: Arc<Client>) -> Fetching {
        let (end, ended) = channel::<()>();
        let watching = std::thread::spawn(move || {
            let goes_on = |wait| matches!(ended.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
            if !goes_on(PATIENCE) {
                return;
            }
            // What is not shown is fetched all the same.
            let Ok(events) = Events::open(client, "/v1/fetches".into(), None, false) else { return };
            let mut screen = Screen::default();
            while goes_on(Duration::ZERO) {
                match events.next_within(PATIENCE) {
                    Ok(Some(Ok(event))) => {
                        screen.show(&serde_json::from_str(&event.data).unwrap_or_default())
                    }
                    Ok(None) => {}
                    _ => return,
                }
            }
            screen.clear();
        });
        Fetching(end, watching)
    }

    pub fn end(self) {
        drop(self.0);
        let _ = self.1.join();
    }
}

#[derive(Default)]
struct Screen {
    drawn: usize,
    /// How many tenths of each fetch were told, where lines cannot be drawn over.
    told: BTreeMap<u64, u64>,
}

impl Screen {
    fn show(&mut self, all: &Vec<FetchView>) {
        if std::io::stderr().is_terminal() {
            self.clear();
            let columns = columns();
            for view in all {
                eprintln!("{}", fit(&text(view), columns));
            }
            self.drawn = all.len();
            return;
        }
        for view in all.iter().filter(|view| view.total_bytes > 0) {
            let tenths = view.done_bytes * 10 / view.total_bytes;
            if self.told.insert(view.id, tenths).is_none_or(|before| before < tenths) {
                eprintln!("{}", text(view));
            }
        }
    }

    fn clear(&mut self) {
        if self.drawn > 0 {
            eprint!("\x1b[{}A\x1b[J", self.drawn);
            let _ = std::io::stderr().flush();
            self.drawn = 0;
        }
    }
}

fn text(view: &FetchView) -> String {
    let (image, platforms) = (&view.image, view.platforms.join(", "));
    match view.total_bytes {
        0 => format!("asking for {image}"),
        total => format!("fetching {image} ({platforms}): {} of {}", size(view.done_bytes), size(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_says_what_and_how_far() {
        let (image, platforms) = ("r.local/web:1".to_string(), vec!["linux/arm64".to_string()]);
        let mut view = FetchView { id: 1, image, platforms, done_bytes: 0, total_bytes: 0 };
        assert_eq!(text(&view), "asking for r.local/web:1");
        (view.done_bytes, view.total_bytes) = (1 << 20, 4 << 20);
        assert_eq!(text(&view), "fetching r.local/web:1 (linux/arm64): 1Mi of 4Mi");
    }
}
