//! This machine's terminal: handed to the command as it is, and given back whatever happens.

use std::io::{IsTerminal as _, stdin, stdout};
use std::sync::Mutex;

use contract::session::Size;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// As it was, while it is not.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

pub fn is_one() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

pub fn size() -> Option<Size> {
    let size = tcgetwinsize(stdout()).ok().filter(|s| s.ws_col > 0 && s.ws_row > 0)?;
    Some(Size { columns: size.ws_col, rows: size.ws_row })
}

/// Every key goes to the command, Ctrl-C too. Dropped, or in a panic, the terminal is as before.
pub struct Raw(());

impl Raw {
    pub fn take() -> std::io::Result<Raw> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *lock() = Some(before);
        // Builds that abort on a panic drop nothing.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = lock().take() {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
