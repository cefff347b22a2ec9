//! Configs and Secrets as the command line shows them. A Secret's values come only when asked for by name.

use contract::DataKind;
use contract::manifest::data_to_yaml;
use contract::spec::{DataObject, Metadata};
use hub_core::data::DataView;
use serde_json::Value;

use super::client::Client;
use super::exit::Done;
use super::kinds::data_path;
use super::style::{ago, size, table};

pub fn rows(items: &[DataView], wide: bool) -> String {
    let mut head = vec!["NAME", "KEYS", "SIZE", "USED BY", "AGE"];
    if wide {
        head.extend(["CONTENT", "VERSION"]);
    }
    let rows = items.iter().map(|item| {
        let used = item.used_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut row = vec![
            item.key.to_string(),
            item.keys.keys().cloned().collect::<Vec<_>>().join(", "),
            size(item.keys.values().sum()),
            if used.is_empty() { "-".to_string() } else { used },
            ago(item.applied_wall_ms),
        ];
        if wide {
            row.extend([item.content.short(), item.version.to_string()]);
        }
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

/// As manifests. A Secret that is not revealed shows its keys, and does not read as one.
pub fn yaml(client: &Client, kind: DataKind, items: &[DataView], reveals: bool) -> Done<String> {
    let mut all = Vec::new();
    for item in items {
        all.push(match kind {
            DataKind::Secret if !reveals => veiled(item),
            _ => data_to_yaml(kind, &values(client, item)?),
        });
    }
    Ok(all.join("---\n"))
}

fn veiled(item: &DataView) -> String {
    let metadata = Metadata {
        name: item.key.name.clone(),
        namespace: item.key.namespace.clone(),
        labels: item.labels.clone(),
        annotations: item.annotations.clone(),
    };
    let (data, binary_data) = Default::default();
    let mut text = data_to_yaml(DataKind::Secret, &DataObject { metadata, data, binary_data });
    text += "# --reveal shows the values of:\n";
    text + &item.keys.iter().map(|(key, n)| format!("#   {key} ({})\n", size(*n))).collect::<String>()
}

fn values(client: &Client, item: &DataView) -> Done<DataObject> {
    let path = data_path(item.kind, &item.key);
    match item.kind {
        DataKind::Config => client.get(&(path + "/data")),
        DataKind::Secret => client.post(&(path + "/reveal"), "application/json", b""),
    }
}

/// For scripts: `data` and `binaryData` beside what a list has.
pub fn reveal(client: &Client, kind: DataKind, items: &mut [Value]) -> Done {
    for item in items {
        let Ok(view) = serde_json::from_value::<DataView>(item.clone()) else { continue };
        debug_assert_eq!(view.kind, kind);
        let values = values(client, &view)?;
        item["data"] = serde_json::json!(values.data);
        item["binaryData"] = serde_json::json!(values.binary_data);
    }
    Ok(())
}

pub fn describe(item: &DataView) -> String {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
    };
    let lines = [
        (item.kind.title(), item.key.to_string()),
        ("Content", format!("{} (version {})", item.content.short(), item.version)),
        ("Labels", pairs(&item.labels)),
        ("Annotations", pairs(&item.annotations)),
        ("Applied", format!("{} ago", ago(item.applied_wall_ms))),
    ];
    let shown = lines.iter().filter(|(_, value)| !value.is_empty());
    let mut text: String = shown.map(|(name, value)| format!("{name:<14}{value}\n")).collect();
    let rows: Vec<_> = item.keys.iter().map(|(key, n)| vec![key.clone(), size(*n)]).collect();
    text += "\n";
    text += &table(&["KEY", "SIZE"], &rows);
    text += "\n";
    if item.used_by.is_empty() {
        return text + "Used by no workload.\n";
    }
    let rows: Vec<_> = item.used_by.iter().map(|key| vec![key.to_string()]).collect();
    text + &table(&["USED BY"], &rows)
}
