//! An image of another registry in the whole system: fetched by the hub, run by boards that never ask the
//! registry, and not missed when the registry is gone.

#[path = "../../../workloads/oci/tests/fixtures/tools.rs"]
mod fixtures;
#[path = "../../../workloads/oci/tests/fixtures/registry.rs"]
mod registry;

use e2e::{Fleet, busybox, until};
use fixtures::{run, tool};
use registry::{Registry, With};

const TALKS: &str = r#"  args: ["echo begin $MODE; exec sleep 100000"]
  env: {MODE: as-told}
  resources: {memory: 32Mi, storage: 8Mi}"#;

#[test]
fn a_registry_that_is_gone_stops_nothing_that_was_applied() {
    let mut registry = Registry::start(&With::default());
    let mut fleet = Fleet::start_with(1, &["--plain-http", &registry.host]);
    let layout = busybox(&fleet.dir.path().join("image"), "");
    let (from, name) = (format!("oci:{}:1", layout.display()), format!("{}/plant/box:1", registry.host));
    run(tool("skopeo")
        .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"])
        .args([from, format!("docker://{name}")]));
    let manifest = e2e::manifest("work", "box", TALKS).replace("image: box:1", &format!("image: {name}"));
    fleet.hub.apply(&manifest);
    fleet.steady("work");
    until("it spoke", || fleet.boards[0].said("work").contains("begin as-told"));
    let asked = registry.asked("\"GET /v2/");

    registry.kill();
    fleet.hub.kill();
    fleet.hub.revive();
    fleet.online(0);
    fleet.hub.apply(&manifest.replace("as-told", "anew"));
    fleet.steady("work");
    until("it speaks anew", || fleet.boards[0].said("work").contains("begin anew"));
    // A board that comes now gets it as well, from the hub.
    let second = fleet.add_board("board-late");
    fleet.online(second);
    until("the late board runs it", || fleet.boards[second].said("work").contains("begin anew"));
    fleet.steady("work");
    assert_eq!(registry.asked("\"GET /v2/"), asked);
    let (status, answer) =
        fleet.hub.post("/v1/apply", manifest.replace("name: work", "name: more").as_bytes());
    assert_eq!(status, 503, "{answer:#}");
    fleet.finish();
}
