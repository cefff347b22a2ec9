//! What an apply would change, as text: the canonical YAML of what is there against what is given.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use contract::Digest;
use contract::manifest::to_yaml;
use contract::spec::Workload;
use hub_core::access::rights::{Kind, Place, Verb};
use hub_core::api::{Apply, ChangeKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::App;
use super::apply;
use super::auth::Asker;
use super::error::ApiError;
use super::extract::{Body, Q};
use super::images;

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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// Ask registries again what tags mean that stand for a digest since an earlier apply.
    #[serde(default)]
    resolve: bool,
}

pub async fn diff(
    State(app): State<App>,
    asker: Asker,
    Q(query): Q<DiffQuery>,
    Body(text): Body,
) -> Result<Json<Diffs>, ApiError> {
    let objects = apply::read(text).await?;
    let workloads = apply::workloads(&objects);
    for workload in &workloads {
        asker.check(&app, Verb::Get, Kind::Workloads, Place::In(&workload.key().namespace)).await?;
    }
    // Whether a value is the present one is told to who could change it: others could try values out.
    super::data::may(&app, &asker, Verb::Apply, &objects).await?;
    let looked = match images::look(&app, &workloads, query.resolve).await? {
        Ok(looked) => looked,
        Err(failed) => return Err(apply::unfetched(failed, &objects)),
    };
    let (images, if_versions) = (looked.images(), BTreeMap::new());
    let data = Vec::new();
    let apply = Apply { workloads, images, data, prune: None, dry_run: true, if_versions };
    let pairs = app.hub.look(move |core, _| {
        let digests = core.digests(&apply);
        let pair = |given: Workload| {
            let key = given.key();
            let present = core
                .workload(&key)
                .map(|view| Version { digest: Some(view.image_digest), manifest: view.manifest });
            (present, Version { digest: digests.get(&key).copied(), manifest: given })
        };
        apply.workloads.into_iter().map(pair).collect::<Vec<_>>()
    });
    let mut items: Vec<_> =
        pairs.await?.into_iter().map(|(present, given)| compare(present, &given)).collect();
    items.extend(super::data::diff(&app, &objects).await?);
    Ok(Json(Diffs { items }))
}

/// A manifest, and what its image means, where that is known.
struct Version {
    manifest: Workload,
    digest: Option<Digest>,
}

impl Version {
    fn text(&self, with_digest: bool) -> String {
        let yaml = to_yaml(&self.manifest);
        match self.digest.filter(|_| with_digest) {
            Some(digest) => format!("{yaml}# {} is {digest}\n", self.manifest.spec.image),
            None => yaml,
        }
    }
}

fn compare(present: Option<Version>, given: &Version) -> WorkloadDiff {
    let workload = given.manifest.key().to_string();
    let moved = present.as_ref().is_some_and(|p| given.digest.is_some() && p.digest != given.digest);
    let change = match &present {
        None => ChangeKind::Created,
        Some(_) if moved => ChangeKind::Changed,
        Some(present) if present.manifest == given.manifest => ChangeKind::Unchanged,
        Some(present) if only_scaled(&present.manifest, &given.manifest) => ChangeKind::Scaled,
        Some(_) => ChangeKind::Changed,
    };
    let old = present.as_ref().map(|present| present.text(moved)).unwrap_or_default();
    let new = given.text(moved || present.is_none());
    let text = unified(present.as_ref().map(|_| workload.as_str()), &workload, &old, &new);
    WorkloadDiff { text, workload, change }
}

/// `was`: its name, if there is anything.
pub fn unified(was: Option<&str>, name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff().context_radius(CONTEXT_LINES).header(was.unwrap_or("/dev/null"), name).to_string()
}

fn only_scaled(present: &Workload, given: &Workload) -> bool {
    let mut given = given.clone();
    given.spec.replicas = present.spec.replicas;
    given == *present
}

#[cfg(test)]
mod tests {
    use contract::manifest::Object;

    use super::*;

    fn workload(replicas: u32, memory: &str) -> Workload {
        let text = format!(
            "apiVersion: skerry/v1\nkind: Workload\nmetadata: {{name: a}}\n\
             spec:\n  image: a:1\n  replicas: {replicas}\n  resources: {{memory: {memory}}}\n"
        );
        let objects = contract::manifest::read(&text, None).unwrap();
        Object::workloads(&objects).next().unwrap().0.clone()
    }

    #[test]
    fn a_diff_names_the_change_and_shows_its_lines() {
        let (present, scaled, changed) = (workload(1, "32Mi"), workload(2, "32Mi"), workload(1, "64Mi"));
        let version = |manifest: &Workload| Version { manifest: manifest.clone(), digest: None };
        let kind = |present: Option<&Workload>, given| {
            let diff = compare(present.map(version), &version(given));
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
        // The same name for something else.
        let of = |bytes| Version { manifest: present.clone(), digest: Some(Digest::of(bytes)) };
        let diff = compare(Some(of(b"one")), &of(b"two"));
        assert_eq!(diff.change, ChangeKind::Changed);
        assert!(diff.text.contains(&format!("+# a:1 is {}\n", Digest::of(b"two"))), "{}", diff.text);
        assert_eq!(compare(Some(of(b"one")), &of(b"one")).text, "");
    }
}
