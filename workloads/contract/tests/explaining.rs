//! What is published about the format agrees with what is taken: JSON Schema, `explain`, defaults.

use contract::manifest::{explain, parse, schema};
use serde_json::json;
use skerry_contract as contract;

/// The part of the schema that is about workloads.
fn workload() -> serde_json::Value {
    schema()["oneOf"][0].clone()
}

#[test]
fn the_schema_describes_a_document() {
    let all = schema();
    assert_eq!(all["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let kinds: Vec<_> =
        all["oneOf"].as_array().unwrap().iter().map(|s| &s["properties"]["kind"]["const"]).collect();
    assert_eq!(kinds, ["Workload", "Config", "Secret"]);
    let schema = workload();
    assert_eq!(schema["properties"]["apiVersion"]["const"], "skerry/v1");
    assert_eq!(schema["properties"]["kind"]["const"], "Workload");
    assert_eq!(schema["required"], json!(["apiVersion", "kind", "metadata", "spec"]));
    assert_eq!(schema["additionalProperties"], false);
    let spec = &schema["properties"]["spec"]["properties"];
    assert_eq!(spec["restartPolicy"]["enum"], json!(["Always", "OnFailure", "Never"]));
    assert_eq!(spec["mounts"]["items"]["required"], json!(["path"]));
    assert_eq!(spec["env"]["additionalProperties"]["anyOf"].as_array().unwrap().len(), 3);
    assert_eq!(spec["resources"]["properties"]["cpu"]["type"], json!(["string", "number"]));
    // `size: 1` is kept as text, so an editor must not mind the number.
    let size = &spec["rollout"]["properties"]["batches"]["items"]["properties"]["size"];
    assert_eq!(size["type"], json!(["string", "number", "boolean"]));
    assert!(!schema.to_string().contains("$ref"));
}

/// Without a text, `explain` and editors have nothing to say.
#[test]
fn every_field_up_to_the_second_level_is_described() {
    let schema = workload();
    for object in ["metadata", "spec"] {
        for (name, field) in schema["properties"][object]["properties"].as_object().unwrap() {
            assert!(field["description"].is_string(), "{object}.{name}");
        }
    }
}

#[test]
fn the_defaults_shown_are_the_defaults_taken() {
    let bare = contract::defaults::effective(&Default::default());
    let shown = |path: &str| explain(path).unwrap().default.unwrap_or_else(|| panic!("{path}"));
    let ms = |path: &str| shown(path).parse::<contract::quantity::Duration>().unwrap().ms;
    let bytes = |path: &str| shown(path).parse::<contract::quantity::Bytes>().unwrap().0;
    assert_eq!(ms("spec.stop.grace"), bare.stop_grace_ms);
    assert_eq!(ms("spec.rollout.healthyAfter"), bare.healthy_after_ms);
    assert_eq!(ms("spec.rollout.deadline"), bare.health_deadline_ms);
    assert_eq!(bytes("spec.resources.memory"), bare.limits.memory_bytes);
    assert_eq!(bytes("spec.resources.storage"), bare.limits.storage_bytes);
    assert_eq!(shown("spec.resources.pids"), bare.limits.pids.to_string());
    assert_eq!(
        shown("spec.resources.cpu").parse(),
        Ok(contract::quantity::Cpu { millis: bare.limits.cpu_millis })
    );
    assert_eq!(shown("spec.stop.signal"), bare.stop_signal);
    let ask = Some(contract::spec::TcpProbe::default());
    let bare = contract::spec::Probe { tcp: ask, ..Default::default() };
    let bare = contract::defaults::probe(&bare).unwrap();
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let of = |field: &str| format!("spec.{probe}.{field}");
        assert_eq!(ms(&of("period")), bare.period_ms);
        assert_eq!(ms(&of("timeout")), bare.timeout_ms);
        assert_eq!(ms(&of("initialDelay")), bare.initial_delay_ms);
        assert_eq!(shown(&of("failureThreshold")), bare.failure_threshold.to_string());
        assert_eq!(shown(&of("successThreshold")), bare.success_threshold.to_string());
    }
    let bare = contract::defaults::effective(&Default::default());
    assert_eq!(shown("spec.restartPolicy"), format!("{:?}", bare.restart_policy));
    assert_eq!(shown("metadata.namespace"), contract::spec::default_namespace().as_str());
}

#[test]
fn explain_walks_lists_maps_and_alternatives() {
    let mounts = explain("workload.spec.mounts").unwrap();
    assert_eq!((mounts.kind.as_str(), mounts.required), ("list of object", false));
    let path = mounts.fields.iter().find(|field| field.name == "path").unwrap();
    assert!(path.required && path.description.contains("absolute"));
    assert_eq!(explain("Workload.spec.mounts[0].path").unwrap(), explain("spec.mounts.path").unwrap());
    let fields =
        |path: &str| -> Vec<String> { explain(path).unwrap().fields.into_iter().map(|f| f.name).collect() };
    assert_eq!(fields("workload"), ["apiVersion", "kind", "metadata", "spec"]);
    assert_eq!(fields("spec.env"), ["key", "secret", "optional", "config"]);
    assert_eq!(fields("spec.image"), Vec::<String>::new());
    let text = explain("spec.restartPolicy").unwrap().to_string();
    assert!(
        text.starts_with("workload.spec.restartPolicy  (Always, OnFailure or Never, default Always)"),
        "{text}"
    );
}

#[test]
fn explain_suggests() {
    assert_eq!(
        explain("spec.mount").unwrap_err(),
        "workload.spec has no field 'mount'; did you mean workload.spec.mounts?"
    );
    assert_eq!(explain("spec.image.tag").unwrap_err(), "workload.spec.image has no fields");
    assert!(explain("pods").unwrap_err().contains("it has apiVersion, kind, metadata, spec"));
    assert!(explain("").is_err());
}

/// A field that the schema knows and the types do not, or the reverse, would show as a panic or a
/// refusal here: each field is given alone.
#[test]
fn every_field_of_the_schema_is_taken() {
    let schema = workload();
    let spec = schema["properties"]["spec"]["properties"].as_object().unwrap();
    for (name, field) in spec {
        let mut manifest = json!({"apiVersion": "skerry/v1", "kind": "Workload",
            "metadata": {"name": "a"}, "spec": {"image": "a:1"}});
        manifest["spec"][name] = sample(field);
        let read = parse(&manifest.to_string(), None);
        assert!(read.is_ok(), "{manifest}: {read:?}");
    }
}

/// Something that the schema allows, with every field there is.
fn sample(schema: &serde_json::Value) -> serde_json::Value {
    let is = |name: &str| {
        schema["type"] == name || schema["type"].as_array().is_some_and(|all| all.iter().any(|t| t == name))
    };
    if let Some(choices) = schema["enum"].as_array() {
        return choices[0].clone();
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        return sample(&variants[variants.len() - 1]);
    }
    if let Some(fields) = schema["properties"].as_object() {
        return fields.iter().map(|(name, field)| (name.clone(), sample(field))).collect();
    }
    match schema["format"].as_str() {
        Some("duration") => return json!("1m30s"),
        Some("cpu") => return json!("250m"),
        Some("bytes") => return json!("1Gi"),
        _ => {}
    }
    if is("array") {
        json!([sample(&schema["items"])])
    } else if is("object") {
        json!({"k": sample(&schema["additionalProperties"])})
    } else if is("integer") {
        json!(1)
    } else if is("boolean") && !is("string") {
        json!(true)
    } else {
        json!("x")
    }
}
