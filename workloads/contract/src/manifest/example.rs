//! Manifests to start from. Tests read and admit each of them.

/// The names that [`example`] knows.
pub const EXAMPLES: [&str; 3] = ["workload", "workload-full", "container"];

/// A manifest of this name; none for a name that is not in [`EXAMPLES`].
pub fn example(name: &str) -> Option<&'static str> {
    match name {
        "workload" => Some(include_str!("examples/workload.yaml")),
        "workload-full" => Some(include_str!("examples/workload-full.yaml")),
        "container" => Some(include_str!("../../../../examples/container.yaml")),
        _ => None,
    }
}
