//! Bytes from one end to the other and back, nothing of them kept.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// Of each direction.
const BUFFER_BYTES: usize = 16 << 10;

/// Returns when both are closed, or when nobody has said anything for so long. Both ends ping while they live, also
/// one whose reader takes its time: the last of a long output waits for its pager as the first did.
pub async fn relay(
    client: impl AsyncRead + AsyncWrite,
    board: impl AsyncRead + AsyncWrite,
    silence_max: Duration,
) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_board, to_board) = tokio::io::split(board);
    let (moved, seen) = watch::channel(());
    let up = pass(from_client, to_board, &moved);
    let down = pass(from_board, to_client, &moved);
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        () = silence(seen, silence_max) => {}
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &watch::Sender<()>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        moved.send_replace(());
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// In both directions: one may wait for a reader for as long as the other is alive.
async fn silence(mut seen: watch::Receiver<()>, max: Duration) {
    while tokio::time::timeout(max, seen.changed()).await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn both_directions_pass_and_end_with_the_ends() {
        let ((mut cli, client), (mut agent, board)) = (duplex(64), duplex(64));
        let task = tokio::spawn(relay(client, board, LONG));
        cli.write_all(b"to the board").await.unwrap();
        let mut buffer = [0; 12];
        agent.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"to the board");
        agent.write_all(b"and back").await.unwrap();
        drop(agent);
        let mut back = Vec::new();
        cli.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"and back");
        drop(cli);
        task.await.unwrap();
    }

    /// A producer without a reader is stopped by what the pipes hold; what it sends meanwhile is kept by nobody.
    #[tokio::test]
    async fn who_does_not_read_is_waited_for() {
        let ((cli, client), (mut agent, board)) = (duplex(64), duplex(64));
        let task = tokio::spawn(relay(client, board, LONG));
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_millis(200), agent.write_all(&[7; 1024])).await.is_ok() {
            sent += 1024;
        }
        assert!(sent <= BUFFER_BYTES + 4096, "{sent}");
        drop((cli, agent));
        task.await.unwrap();
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let ((_cli, client), (mut agent, board)) = (duplex(64), duplex(64));
        let task = tokio::spawn(relay(client, board, Duration::from_millis(50)));
        task.await.unwrap();
        assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
    }

    /// The command has ended; who reads what it said is still there, and takes his time.
    #[tokio::test]
    async fn the_last_words_wait_for_a_reader_that_lives() {
        let ((mut cli, client), (mut agent, board)) = (duplex(64), duplex(64));
        let task = tokio::spawn(relay(client, board, LONG));
        // As much as the two pipes hold.
        agent.write_all(&[7; 128]).await.unwrap();
        agent.shutdown().await.unwrap();
        for _ in 0..100 {
            cli.write_all(b"p").await.unwrap();
            agent.read_exact(&mut [0]).await.unwrap();
        }
        let mut all = Vec::new();
        cli.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 128);
        drop((cli, agent));
        task.await.unwrap();
    }
}
