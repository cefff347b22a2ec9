//! What is on its way from other registries, as it moves.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;

use super::App;
use super::auth::Asker;
use super::sse::{self, Closed, Feed};

/// Between two looks; bytes arrive more often than anybody reads.
const APART: Duration = Duration::from_millis(200);

pub async fn watch(State(app): State<App>, asker: Asker) -> Response {
    sse::respond(asker.ended, move |feed| follow(app, feed))
}

async fn follow(app: App, feed: Feed) -> Result<(), Closed> {
    let mut moving = app.fetcher.progress.subscribe();
    loop {
        let all = moving.borrow_and_update().clone();
        feed.json("fetches", &all).await?;
        tokio::time::sleep(APART).await;
        if moving.changed().await.is_err() {
            return Ok(());
        }
    }
}
