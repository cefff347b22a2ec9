//! Manifests to start from. Tests read and admit each of them.

/// The names that [`example`] knows.
pub const EXAMPLES: [&str; 5] = ["workload", "workload-full", "container", "config", "secret"];

/// A manifest of this name; none for a name that is not in [`EXAMPLES`].
pub fn example(name: &str) -> Option<&'static str> {
    match name {
        "workload" => Some(include_str!("examples/workload.yaml")),
        "workload-full" => Some(include_str!("examples/workload-full.yaml")),
        "container" => Some(include_str!("../../../../examples/container.yaml")),
        "config" => Some(include_str!("examples/config.yaml")),
        "secret" => Some(include_str!("examples/secret.yaml")),
        _ => None,
    }
}
