//! Manifests into a request, and the core's refusals back to the lines they are about.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, header};
use bytes::Bytes;
use contract::manifest::{self, Object, Problem};
use contract::spec::Workload;
use contract::{Version, WorkloadKey};
use hub_core::access::rights::{Kind, Place, Verb};
use hub_core::api::{Answer, Apply, ChangeKind, Prune, Refusal, Request};
use schemars::JsonSchema;
use serde::Deserialize;

use super::App;
use super::auth::Asker;
use super::data;
use super::error::{ApiError, Code, Detail};
use super::extract::{Body, Q, labels};
use super::images::{self, Failed};
use crate::audit::Objects;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyQuery {
    /// Admit and answer, but change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Delete workloads with all of these labels that are not in the body: `k=v,k2=v2`.
    prune: Option<String>,
    /// Ask registries again what tags mean that stand for a digest since an earlier apply.
    #[serde(default)]
    resolve: bool,
    /// Refuse unless these are the present versions, 0 for "must not exist": `ns/name=12,ns/b=0`.
    if_versions: Option<String>,
}

pub async fn apply(
    State(app): State<App>,
    asker: Asker,
    touched: Objects,
    Q(query): Q<ApplyQuery>,
    Body(text): Body,
) -> Result<Json<Answer>, ApiError> {
    let prune = query.prune.as_deref().map(|text| labels("prune", text)).transpose()?;
    let prune = match prune {
        Some(pairs) => Some(pruned(&app, &asker, pairs.into_iter().collect()).await?),
        None => None,
    };
    let if_versions = query.if_versions.as_deref().map(versions).transpose()?.unwrap_or_default();
    let objects = read(text).await?;
    let workloads = workloads(&objects);
    touched.add(workloads.iter().map(|workload| workload.key().to_string()));
    for workload in &workloads {
        asker.check(&app, Verb::Apply, Kind::Workloads, Place::In(&workload.key().namespace)).await?;
    }
    data::may(&app, &asker, Verb::Apply, &objects).await?;
    touched.add(Object::data(&objects).map(|(kind, object)| object.id(kind).to_string()));
    let looked = match images::look(&app, &workloads, query.resolve).await? {
        Ok(looked) => looked,
        Err(failed) => return Err(unfetched(failed, &objects)),
    };
    let images = looked.images();
    // Held until the records are durable, which the answer says.
    let (data, contents) = data::take(&app, &objects).await?;
    let apply = Apply { workloads, images, data, prune, dry_run: query.dry_run, if_versions };
    // Judged before gigabytes come for it.
    if !looked.is_empty() && !query.dry_run {
        judged(&app, Apply { dry_run: true, ..apply.clone() }, &objects).await?;
    }
    let pins = match query.dry_run {
        true => Vec::new(),
        false => looked.bring(&app).await?.map_err(|failed| unfetched(failed, &objects))?,
    };
    let answer = judged(&app, apply, &objects).await;
    drop((pins, contents));
    if let Ok(Answer::Applied { changes, .. }) = &answer {
        let deleted = changes.iter().filter(|change| change.change == ChangeKind::Deleted);
        touched.add(deleted.map(|change| format!("{} (deleted)", change.workload)));
    }
    answer.map(Json)
}

/// As far as whoever asks may delete.
async fn pruned(app: &App, asker: &Asker, labels: BTreeMap<String, String>) -> Result<Prune, ApiError> {
    asker.check(app, Verb::Delete, Kind::Workloads, Place::Somewhere).await?;
    Ok(Prune { labels, within: asker.sees(Verb::Delete, Kind::Workloads) })
}

pub fn workloads(objects: &[Object]) -> Vec<Workload> {
    Object::workloads(objects).map(|(workload, _)| workload.clone()).collect()
}

async fn judged(app: &App, apply: Apply, objects: &[Object]) -> Result<Answer, ApiError> {
    match app.hub.request(Request::Apply(Box::new(apply))).await? {
        Answer::Refused { errors } => Err(refused(Code::Invalid, errors, objects)),
        Answer::Conflict { errors } => Err(refused(Code::Conflict, errors, objects)),
        Answer::NotFound { errors } => Err(refused(Code::NotFound, errors, objects)),
        answer => Ok(answer),
    }
}

/// Off the runtime: a megabyte of YAML takes a while.
pub async fn read(text: Bytes) -> Result<Vec<Object>, ApiError> {
    let parsed = tokio::task::spawn_blocking(move || match std::str::from_utf8(&text) {
        Ok(text) => manifest::read(text, None).map_err(|problems| problems_error(&problems)),
        Err(e) => Err(ApiError::invalid(format!("the manifest is not UTF-8 (byte {})", e.valid_up_to()))),
    });
    parsed.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn problems_error(problems: &[Problem]) -> ApiError {
    let message = match problems {
        [one] => one.to_string(),
        many => format!("{} mistakes in the manifest; nothing was changed", many.len()),
    };
    ApiError::invalid(message).with_details(problems.iter().map(|problem| detail(problem, None)).collect())
}

fn detail(problem: &Problem, workload: Option<&WorkloadKey>) -> Detail {
    Detail {
        document: Some(problem.document),
        line: Some(problem.line),
        column: Some(problem.column),
        path: problem.path.clone(),
        workload: workload.map(ToString::to_string),
        reason: problem.reason.clone(),
        suggestion: problem.suggestion.clone(),
    }
}

/// One error of all images that could not be had.
pub fn unfetched(failed: Failed, objects: &[Object]) -> ApiError {
    let message = match failed.refusals.len() {
        1 => "an image could not be had from its registry; nothing was changed".to_string(),
        many => format!("{many} images could not be had from their registries; nothing was changed"),
    };
    let details = failed.refusals.into_iter().map(|refusal| locate(refusal, objects)).collect();
    ApiError::new(failed.code, message).with_details(details)
}

/// The core knows fields, not lines.
fn refused(code: Code, errors: Vec<Refusal>, objects: &[Object]) -> ApiError {
    let message = match errors.as_slice() {
        [_] => "1 mistake; nothing was changed".to_string(),
        many => format!("{} mistakes; nothing was changed", many.len()),
    };
    let details = errors.into_iter().map(|refusal| locate(refusal, objects)).collect();
    ApiError::new(code, message).with_details(details)
}

fn locate(refusal: Refusal, objects: &[Object]) -> Detail {
    let source = refusal.workload.as_ref().and_then(|key| {
        Object::workloads(objects).find(|(workload, _)| workload.key() == *key).map(|(_, source)| source)
    });
    match source {
        Some(source) => {
            let problem = source.problem(&refusal.field, &refusal.reason);
            detail(&problem, refusal.workload.as_ref())
        }
        None => refusal.into(),
    }
}

/// `ns/name=12,…`
fn versions(text: &str) -> Result<BTreeMap<WorkloadKey, Version>, ApiError> {
    let wrong = || ApiError::invalid(format!("ifVersions: '{text}' is not ns/name=version,…"));
    let one = |part: &str| {
        let (key, version) = part.split_once('=')?;
        Some((key.parse().ok()?, Version(version.parse().ok()?)))
    };
    text.split(',').map(|part| one(part.trim()).ok_or_else(wrong)).collect()
}

/// Of one manifest document, for editors.
pub async fn schema() -> ([(HeaderName, &'static str); 1], Json<serde_json::Value>) {
    ([(header::CONTENT_TYPE, super::routes::JSON_SCHEMA)], Json(manifest::schema()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_by_name() {
        let read = versions("a/b=12, c/d=0").unwrap();
        assert_eq!(read[&"a/b".parse::<WorkloadKey>().unwrap()], Version(12));
        assert_eq!(read.len(), 2);
        for wrong in ["", "a=1", "a/b", "a/b=x"] {
            assert!(versions(wrong).is_err(), "{wrong}");
        }
    }
}
