//! The API's own description (OpenAPI 3.1), made from the route table and from the types that the
//! handlers read and write.

use std::sync::LazyLock;

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::routes::{self, Content, Guard, Route};

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub async fn get() -> Json<Value> {
    Json(DOCUMENT.clone())
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in routes::all() {
        for method in route.method.split(' ') {
            let operation = operation(&route, &mut generator);
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[method.to_lowercase()] = operation;
        }
    }
    let error = routes::error_schema(&mut generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Skerry hub",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the hub's command line uses, and nothing else.",
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Error": {
                "description": "What is wrong, and where.",
                "content": {"application/json": {"schema": error}},
            }},
        },
        "security": [{"token": []}],
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let mut answer = json!({"description": route.summary});
    if let Some(content) = &route.answers {
        answer["content"] = body(content, generator);
    }
    responses.insert(route.status.to_string(), answer);
    responses.insert("default".to_string(), json!({"$ref": "#/components/responses/Error"}));
    let mut parameters = path_parameters(route.path);
    if let Some(query) = route.query {
        parameters.extend(query_parameters(query(generator), generator));
    }
    if route.guard == Guard::Change {
        let description = "The same key gives the same answer, and is done once.";
        let schema = json!({"type": "string", "maxLength": 128});
        parameters.push(
            json!({"name": "Idempotency-Key", "in": "header", "description": description, "schema": schema}),
        );
    }
    let mut operation = json!({"summary": route.summary, "responses": responses});
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if let Some(content) = &route.takes {
        operation["requestBody"] = json!({"required": true, "content": body(content, generator)});
    }
    if matches!(route.guard, Guard::Open | Guard::Ticket | Guard::Agent) {
        operation["security"] = json!([]);
    }
    operation
}

fn body(content: &Content, generator: &mut SchemaGenerator) -> Value {
    let schema = content.schema.map(|schema| schema(generator).to_value());
    json!({content.media: schema.map_or(json!({}), |schema| json!({"schema": schema}))})
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

/// The fields of a query's type, one parameter each.
fn query_parameters(schema: Schema, generator: &SchemaGenerator) -> Vec<Value> {
    let reference =
        schema.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next()).map(str::to_string);
    let whole = match reference {
        Some(name) => generator.definitions().get(&name).cloned().unwrap_or_default(),
        None => schema.to_value(),
    };
    let required = |name: &str| whole["required"].as_array().is_some_and(|all| all.iter().any(|r| r == name));
    let fields = whole["properties"].as_object().cloned().unwrap_or_default();
    let one = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|s| s.remove("description")).unwrap_or_default();
        let mut parameter =
            json!({"name": name, "in": "query", "required": required(&name), "schema": schema});
        if !description.is_null() {
            parameter["description"] = description;
        }
        parameter
    };
    fields.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference leads somewhere, and every route says what it is for.
    #[test]
    fn the_document_is_whole() {
        let document = document();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 20, "{references:?}");
        for reference in references {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let routes = routes::all();
        let methods: usize = routes.iter().map(|route| route.method.split(' ').count()).sum();
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(described, methods);
        for route in routes {
            assert!(!route.summary.is_empty(), "{} {}", route.method, route.path);
        }
        let parameters = document["paths"]["/v1/apply"]["post"]["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|p| p["name"] == "dryRun" && p["required"] == false), "{parameters:?}");
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_string));
                map.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
