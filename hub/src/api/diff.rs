//! What an apply would change, as text: the canonical YAML of what is there against what is given.

use axum::Json;
use axum::extract::State;
use contract::manifest::{Object, to_yaml};
use contract::spec::Workload;
use hub_core::api::ChangeKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::App;
use super::apply;
use super::error::ApiError;
use super::extract::Body;

/// Lines shown around a change.
const CONTEXT_LINES: usize = 3;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Diffs {
    pub items: Vec<WorkloadDiff>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadDiff {
    /// `<namespace>/<name>`.
    pub workload: String,
    /// created, changed, scaled or unchanged.
    pub change: ChangeKind,
    /// Unified; empty when nothing changes.
    pub text: String,
}

pub async fn diff(State(app): State<App>, Body(text): Body) -> Result<Json<Diffs>, ApiError> {
    let given: Vec<Workload> =
        apply::read(text).await?.into_iter().map(|Object::Workload(w, _)| *w).collect();
    let keys: Vec<_> = given.iter().map(Workload::key).collect();
    let present = app.hub.look(move |core, _| {
        let manifest = |key| core.workload(key).map(|view| view.manifest);
        keys.iter().map(manifest).collect::<Vec<Option<Workload>>>()
    });
    let items =
        present.await?.into_iter().zip(given).map(|(present, given)| compare(present, &given)).collect();
    Ok(Json(Diffs { items }))
}

fn compare(present: Option<Workload>, given: &Workload) -> WorkloadDiff {
    let workload = given.key().to_string();
    let change = match &present {
        None => ChangeKind::Created,
        Some(present) if present == given => ChangeKind::Unchanged,
        Some(present) if only_scaled(present, given) => ChangeKind::Scaled,
        Some(_) => ChangeKind::Changed,
    };
    let (old, new) = (present.as_ref().map(to_yaml).unwrap_or_default(), to_yaml(given));
    let name = if present.is_some() { workload.as_str() } else { "/dev/null" };
    let text = TextDiff::from_lines(&old, &new);
    let text = text.unified_diff().context_radius(CONTEXT_LINES).header(name, &workload).to_string();
    WorkloadDiff { text: if old == new { String::new() } else { text }, workload, change }
}

fn only_scaled(present: &Workload, given: &Workload) -> bool {
    let mut given = given.clone();
    given.spec.replicas = present.spec.replicas;
    given == *present
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(replicas: u32, memory: &str) -> Workload {
        let text = format!(
            "apiVersion: skerry/v1\nkind: Workload\nmetadata: {{name: a}}\n\
             spec:\n  image: a:1\n  replicas: {replicas}\n  resources: {{memory: {memory}}}\n"
        );
        let objects = contract::manifest::read(&text, None).unwrap();
        let Object::Workload(workload, _) = objects.into_iter().next().unwrap();
        *workload
    }

    #[test]
    fn a_diff_names_the_change_and_shows_its_lines() {
        let (present, scaled, changed) = (workload(1, "32Mi"), workload(2, "32Mi"), workload(1, "64Mi"));
        let kind = |present: Option<&Workload>, given| {
            let diff = compare(present.cloned(), given);
            (diff.change, diff.text)
        };
        assert_eq!(kind(Some(&present), &present), (ChangeKind::Unchanged, String::new()));
        assert_eq!(kind(Some(&present), &scaled).0, ChangeKind::Scaled);
        let (change, text) = kind(Some(&present), &changed);
        assert_eq!(change, ChangeKind::Changed);
        assert!(text.contains("-    memory: 32Mi\n+    memory: 64Mi\n"), "{text}");
        let (change, text) = kind(None, &changed);
        assert!(
            change == ChangeKind::Created && text.starts_with("--- /dev/null\n+++ default/a\n"),
            "{text}"
        );
    }
}
