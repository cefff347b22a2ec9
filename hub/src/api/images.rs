//! What an apply has to ask of other registries before it can be judged, and to bring before it is done.

use std::collections::BTreeMap;

use contract::spec::Workload;
use futures_util::StreamExt as _;
use hub_core::api::Refusal;
use hub_core::resolve::{Found, Wanted};

use super::App;
use super::error::{ApiError, Code};
use crate::artifact::Pin;
use crate::fetch::FetchError;

/// Registries are asked about so many images at once: one that is silent holds up few others.
const LOOKS_MAX: usize = 8;

/// What registries said, by the name in `spec.image`.
#[derive(Default)]
pub struct Looked(Vec<(Wanted, Found)>);

/// Why not, for each image.
pub struct Failed {
    pub code: Code,
    pub refusals: Vec<Refusal>,
}

impl Looked {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn images(&self) -> BTreeMap<String, Found> {
        self.0.iter().map(|(wanted, found)| (wanted.image.clone(), found.clone())).collect()
    }

    /// Every piece of every image becomes a blob, or nothing is applied.
    pub async fn bring(&self, app: &App) -> Result<Result<Vec<Pin>, Failed>, ApiError> {
        let all = self.0.clone();
        let brought = app.fetcher.apart(async move |fetcher| {
            let (mut pins, mut failed) = (Vec::new(), Vec::new());
            for (wanted, found) in all {
                match fetcher.bring(&wanted.reference, &found).await {
                    Ok(more) => pins.extend(more),
                    Err(e) => failed.push((wanted, e)),
                }
            }
            if failed.is_empty() { Ok(pins) } else { Err(Failed::of(failed)) }
        });
        brought.await.ok_or_else(stopping)
    }
}

/// `again`: tags that a registry has told before, too.
pub async fn look(
    app: &App,
    workloads: &[Workload],
    again: bool,
) -> Result<Result<Looked, Failed>, ApiError> {
    let workloads = workloads.to_vec();
    let wanted = app.hub.look(move |core, _| core.wanted_images(&workloads, again)).await?;
    if wanted.is_empty() {
        return Ok(Ok(Looked::default()));
    }
    let looked = app.fetcher.apart(async move |fetcher| {
        let one = async |wanted: Wanted| {
            let found = fetcher.look(&wanted.reference, &wanted.platforms).await;
            (wanted, found)
        };
        let all = futures_util::stream::iter(wanted).map(one).buffered(LOOKS_MAX).collect::<Vec<_>>();
        let (mut looked, mut failed) = (Vec::new(), Vec::new());
        for (wanted, found) in all.await {
            match found {
                Ok(found) => looked.push((wanted, found)),
                Err(e) => failed.push((wanted, e)),
            }
        }
        if failed.is_empty() { Ok(Looked(looked)) } else { Err(Failed::of(failed)) }
    });
    looked.await.ok_or_else(stopping)
}

impl Failed {
    fn of(failed: Vec<(Wanted, FetchError)>) -> Failed {
        let refused = failed.iter().any(|(_, e)| matches!(e, FetchError::Refused(_)));
        let code = if refused { Code::Invalid } else { Code::Unavailable };
        let refusals = failed.into_iter().map(|(wanted, e)| Refusal {
            workload: Some(wanted.workload),
            field: "spec.image".into(),
            reason: e.to_string(),
        });
        Failed { code, refusals: refusals.collect() }
    }
}

fn stopping() -> ApiError {
    ApiError::new(Code::Unavailable, "the hub is stopping")
}
