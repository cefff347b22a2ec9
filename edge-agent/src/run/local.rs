//! What the agent tells on its own board: a socket that only root can open. It is asked; nothing is
//! written while nobody asks.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;

pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    // We hold the lock, so a socket that lies here belongs to an agent that is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers one visitor with the status and hangs up. A visitor who does not read is left.
pub fn answer(
    visitor: std::io::Result<(tokio::net::UnixStream, tokio::net::unix::SocketAddr)>,
    status: &impl serde::Serialize,
) {
    let Ok((mut stream, _)) = visitor else { return };
    let Ok(mut text) = serde_json::to_vec(status) else { return };
    text.push(b'\n');
    tokio::spawn(async move {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), stream.write_all(&text)).await;
    });
}
