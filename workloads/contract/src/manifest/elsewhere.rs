//! How other tools (Kubernetes, Compose, Nomad) spell what is meant here, and our answer. An
//! operator who brings a manifest from there learns the difference from the error.

use super::node::{Node, Value};

/// `ours`: what to write instead, empty when there is no such thing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub ours: &'static str,
    pub text: &'static str,
}

/// An answer for the unknown field `key` of `parent`.
pub(super) fn field(parent: &str, key: &str) -> Option<Answer> {
    let parent = without_indices(parent);
    let found = |place: &str| FIELDS.iter().find(|(at, name, ..)| *at == place && *name == key);
    let (_, _, ours, text) = found(&parent).or_else(|| found("*"))?;
    Some(Answer { ours, text })
}

/// An answer for a value of the wrong kind at `path`.
pub(super) fn kind(path: &str, node: &Node) -> Option<&'static str> {
    let path = without_indices(path);
    let found = match &node.value {
        Value::List(_) => LISTS.iter().find(|(at, _)| *at == path),
        Value::Map(_) => MAPS.iter().find(|(at, _)| *at == path),
        Value::Scalar { .. } => SCALARS.iter().find(|(at, _)| *at == path),
    };
    found.map(|(_, text)| *text)
}

/// An answer for a wrong word at `path`.
pub(super) fn value(path: &str, text: &str) -> Option<&'static str> {
    let path = without_indices(path);
    VALUES.iter().find(|(at, word, _)| *at == path && word.eq_ignore_ascii_case(text)).map(|(.., hint)| *hint)
}

/// What to do about a document of another tool, by its `kind`.
pub(super) fn document(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(name, _)| *name == kind).map(|(_, text)| *text)
}

fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

const KINDS: [(&str, &str); 13] = [
    ("Deployment", "write kind: Workload with replicas"),
    ("StatefulSet", "write kind: Workload with replicas, and a volume among its mounts"),
    ("ReplicaSet", "write kind: Workload with replicas"),
    ("DaemonSet", "write kind: Workload with everyAgent: true"),
    ("Pod", "write kind: Workload with replicas: 1"),
    ("Job", "write kind: Workload with restartPolicy: OnFailure"),
    ("CronJob", "write kind: Workload; its schedule comes with a later version"),
    ("ConfigMap", "write apiVersion: skerry/v1 and kind: Config"),
    ("Service", "a Workload listens on its board's own address; remove this document"),
    ("Ingress", "a Workload listens on its board's own address; remove this document"),
    ("PersistentVolumeClaim", "write {volume: name, path: /data, size: 100Mi} among the Workload's mounts"),
    ("ServiceAccount", "there are no service accounts; remove this document"),
    ("List", "write the items as documents of their own, with a line '---' between"),
];

/// (parent, field, ours, answer); the parent `*` is anywhere.
const FIELDS: [(&str, &str, &str, &str); 115] = [
    ("", "job", "spec", "write apiVersion: skerry/v1, kind: Workload, metadata and spec"),
    ("", "group", "spec", "write apiVersion: skerry/v1, kind: Workload, metadata and spec"),
    ("", "services", "spec", "write one document of kind: Workload for each service"),
    ("", "version", "apiVersion", "write apiVersion: skerry/v1"),
    ("", "name", "metadata.name", "it belongs to metadata"),
    ("", "data", "", "only Workloads are known yet; put values into spec.env"),
    ("*", "status", "", "it is what the hub reports, never written; remove it"),
    ("metadata", "creationTimestamp", "", "the hub keeps it; remove it"),
    ("metadata", "generation", "", "the hub keeps it; remove it"),
    ("metadata", "resourceVersion", "", "the hub keeps it; remove it"),
    ("metadata", "uid", "", "the hub keeps it; remove it"),
    ("metadata", "managedFields", "", "the hub keeps it; remove it"),
    ("metadata", "generateName", "name", "each object has the name it is given"),
    ("metadata", "finalizers", "", "there are none; remove it"),
    ("metadata", "ownerReferences", "", "there are none; remove it"),
    ("*", "containers", "", "a Workload is one container: put its image, args and env right under spec"),
    ("*", "container", "", "a Workload is one container: put its image, args and env right under spec"),
    ("*", "initContainers", "dependsOn", "write a Workload of its own"),
    ("*", "sidecars", "", "write a Workload of its own"),
    ("*", "template", "", "a Workload is its own template: put what is below it right under spec"),
    ("*", "tasks", "", "a Workload is one task: put its image, args and env right under spec"),
    ("*", "limits", "resources", "limit and reservation are one: write resources: {cpu: 250m, memory: 64Mi}"),
    (
        "*",
        "requests",
        "resources",
        "limit and reservation are one: write resources: {cpu: 250m, memory: 64Mi}",
    ),
    (
        "*",
        "reservations",
        "resources",
        "limit and reservation are one: write resources: {cpu: 250m, memory: 64Mi}",
    ),
    ("*", "mem_limit", "resources.memory", "write resources: {memory: 64Mi}"),
    ("*", "memory_limit", "resources.memory", "write resources: {memory: 64Mi}"),
    ("*", "cpus", "resources.cpu", "write resources: {cpu: 500m}"),
    ("*", "cpu_shares", "resources.cpu", "write resources: {cpu: 500m}"),
    ("*", "pids_limit", "resources.pids", "write resources: {pids: 64}"),
    ("*", "ephemeral-storage", "storage", "write storage: 64Mi"),
    ("spec", "cpu", "resources.cpu", "write resources: {cpu: 500m}"),
    ("spec", "memory", "resources.memory", "write resources: {memory: 64Mi}"),
    (
        "*",
        "nodeSelector",
        "placement.selector.matchLabels",
        "write placement: {selector: {matchLabels: {…}}}",
    ),
    ("*", "nodeName", "placement.selector.matchLabels", "give the agent a label and select it"),
    (
        "*",
        "nodeAffinity",
        "placement.affinity",
        "write placement: {affinity: {required: [{matchExpressions: […]}]}}",
    ),
    ("*", "constraint", "placement.selector", "write placement: {selector: {matchExpressions: […]}}"),
    ("*", "constraints", "placement.selector", "write placement: {selector: {matchExpressions: […]}}"),
    ("*", "datacenters", "placement.selector.matchLabels", "write placement: {selector: {matchLabels: {…}}}"),
    ("*", "topologySpreadConstraints", "placement.spread", "write placement: {spread: <label>}"),
    (
        "spec",
        "selector",
        "placement.selector",
        "which agents run it is said by placement.selector; a Workload needs no selector of its own",
    ),
    ("spec", "affinity", "placement.affinity", "it belongs to placement"),
    ("spec", "tolerations", "placement.tolerations", "it belongs to placement"),
    ("spec", "arch", "placement.arch", "it belongs to placement"),
    ("*", "priorityClassName", "priority", "give a number from -1000 to 1000; there are no classes"),
    (
        "*",
        "imagePullPolicy",
        "",
        "a tag is resolved to its digest when applied, so that there is nothing to pull again; remove it",
    ),
    (
        "*",
        "pull_policy",
        "",
        "a tag is resolved to its digest when applied, so that there is nothing to pull again; remove it",
    ),
    ("*", "imagePullSecrets", "", "boards fetch from the hub; remove it"),
    ("*", "restart", "restartPolicy", "write restartPolicy: Always, OnFailure or Never"),
    ("*", "restart_policy", "restartPolicy", "write restartPolicy: Always, OnFailure or Never"),
    ("*", "containerPort", "port", "write port: the port inside the workload"),
    ("*", "hostPort", "host", "write host: the port on the board"),
    ("*", "targetPort", "port", "write port: the port inside the workload"),
    ("*", "published", "host", "write host: the port on the board"),
    ("*", "hostIP", "", "a port is reserved on the board as a whole; remove it"),
    ("*", "protocol", "", "ports are TCP; remove it"),
    ("*", "expose", "ports", "write ports: [{port: 8080}]"),
    ("*", "volumeMounts", "mounts", "write mounts: [{volume: data, path: /data}]"),
    (
        "*",
        "volumes",
        "mounts",
        "what is mounted and where stand together: mounts: [{volume: data, path: /data}]",
    ),
    ("*", "volumeClaimTemplates", "mounts", "write mounts: [{volume: data, path: /data, size: 100Mi}]"),
    ("*", "mountPath", "path", "write path: where the workload sees it"),
    ("*", "target", "path", "write path: where the workload sees it"),
    ("*", "destination", "path", "write path: where the workload sees it"),
    ("spec.mounts", "name", "volume", "write volume: <name> for a directory that outlives the instance"),
    ("spec.mounts", "source", "hostPath", "write volume: <name> or hostPath: <path>"),
    ("spec.mounts", "type", "", "the source says it: one of volume, hostPath, tmpfs, config and secret"),
    ("*", "subPath", "", "mount the directory itself; remove it"),
    ("*", "emptyDir", "tmpfs", "write tmpfs: 16Mi, or volume: <name>"),
    ("*", "persistentVolumeClaim", "volume", "write volume: <name>"),
    ("*", "configMap", "config", "write config: <name>"),
    ("*", "configMapKeyRef", "config", "write {config: <name>, key: <key>}"),
    ("*", "secretKeyRef", "secret", "write {secret: <name>, key: <key>}"),
    ("*", "valueFrom", "", "write {secret: <name>, key: <key>} or {config: <name>, key: <key>}"),
    ("*", "envFrom", "env", "name each variable in env"),
    ("*", "env_file", "env", "name each variable in env"),
    ("*", "environment", "env", "write env: {NAME: value}"),
    ("*", "entrypoint", "command", "write command: [program, argument]"),
    ("*", "cmd", "args", "write args: [a, b]"),
    ("*", "workingDir", "workdir", "write workdir: /srv"),
    ("*", "working_dir", "workdir", "write workdir: /srv"),
    ("*", "cap_add", "security.capabilities.add", "write security: {capabilities: {add: [NET_ADMIN]}}"),
    ("*", "cap_drop", "security.capabilities.drop", "write security: {capabilities: {drop: [NET_RAW]}}"),
    ("*", "readOnlyRootFilesystem", "security.readOnlyRoot", "write security: {readOnlyRoot: true}"),
    ("*", "initialDelaySeconds", "initialDelay", "write initialDelay: 5s"),
    ("*", "periodSeconds", "period", "write period: 10s"),
    ("*", "timeoutSeconds", "timeout", "write timeout: 1s"),
    ("*", "interval", "period", "write period: 10s"),
    ("*", "tcpSocket", "tcp", "write tcp: {port: 8080}"),
    ("*", "tcp_socket", "tcp", "write tcp: {port: 8080}"),
    ("*", "httpHeaders", "headers", "write headers: {Host: shop.example}"),
    ("*", "grpc", "tcp", "write tcp: {port: 8080}, or exec: [a client of it]"),
    ("*", "retries", "failureThreshold", "write failureThreshold: 3"),
    ("*", "start_period", "initialDelay", "write initialDelay: 5s, or a startupProbe"),
    ("*", "startPeriod", "initialDelay", "write initialDelay: 5s, or a startupProbe"),
    ("*", "start_interval", "startupProbe", "write a startupProbe with a period of its own"),
    ("*", "test", "exec", "write exec: [program, argument]"),
    ("spec.livenessProbe", "command", "exec", "write exec: [program, argument]"),
    ("spec.readinessProbe", "command", "exec", "write exec: [program, argument]"),
    ("spec.startupProbe", "command", "exec", "write exec: [program, argument]"),
    ("*", "healthcheck", "livenessProbe", "write livenessProbe: {exec: [program, argument]}"),
    ("*", "health_check", "livenessProbe", "write livenessProbe: {httpGet: {port: 8080, path: /healthz}}"),
    ("*", "check", "livenessProbe", "write livenessProbe: {httpGet: {port: 8080, path: /healthz}}"),
    ("*", "terminationGracePeriodSeconds", "stop.grace", "write stop: {grace: 30s}"),
    ("*", "stop_grace_period", "stop.grace", "write stop: {grace: 30s}"),
    ("*", "stop_signal", "stop.signal", "write stop: {signal: TERM}"),
    ("*", "lifecycle", "stop", "write stop: {signal: TERM, grace: 10s}"),
    ("*", "kill_timeout", "stop.grace", "write stop: {grace: 30s}"),
    ("*", "strategy", "rollout", "write rollout: {healthyAfter: 10s, deadline: 10m}"),
    ("*", "updateStrategy", "rollout", "write rollout: {healthyAfter: 10s, deadline: 10m}"),
    ("*", "minReadySeconds", "rollout.healthyAfter", "write rollout: {healthyAfter: 10s}"),
    ("*", "progressDeadlineSeconds", "rollout.deadline", "write rollout: {deadline: 10m}"),
    ("*", "revisionHistoryLimit", "", "the hub keeps the last ten; remove it"),
    ("*", "hostNetwork", "network.mode", "write network: {mode: host}"),
    ("*", "network_mode", "network.mode", "write network: {mode: host}"),
    ("*", "count", "replicas", "write replicas: 3"),
    ("*", "securityContext", "security", "write security: {user: \"101:101\", readOnlyRoot: true}"),
];

const LISTS: [(&str, &str); 7] = [
    ("spec.livenessProbe.httpGet.headers", "write a map, Name: value, not a list"),
    ("spec.readinessProbe.httpGet.headers", "write a map, Name: value, not a list"),
    ("spec.startupProbe.httpGet.headers", "write a map, Name: value, not a list"),
    ("spec.env", "write a map, NAME: value, not a list"),
    ("metadata.labels", "write a map, key: value, not a list"),
    ("metadata.annotations", "write a map, key: value, not a list"),
    ("", "write each object as a document of its own, with a line '---' between"),
];

const MAPS: [(&str, &str); 6] = [
    ("spec.livenessProbe.exec", "write the command itself: exec: [program, argument]"),
    ("spec.readinessProbe.exec", "write the command itself: exec: [program, argument]"),
    ("spec.startupProbe.exec", "write the command itself: exec: [program, argument]"),
    ("spec.mounts.hostPath", "write the path itself: hostPath: /dir"),
    ("spec.mounts.config", "write its name alone: config: <name>"),
    ("spec.mounts.secret", "write its name alone: secret: <name>"),
];

const SCALARS: [(&str, &str); 9] = [
    ("spec.livenessProbe.exec", "write a list: exec: [program, argument]"),
    ("spec.readinessProbe.exec", "write a list: exec: [program, argument]"),
    ("spec.startupProbe.exec", "write a list: exec: [program, argument]"),
    ("spec.args", "write a list: args: [a, b]"),
    ("spec.command", "write a list: command: [program, argument]"),
    ("spec.mounts", "write {volume: data, path: /data}"),
    ("spec.ports", "write {port: 8080, host: 80}"),
    ("spec.network", "write network: {mode: host}"),
    ("spec.resources", "write resources: {cpu: 250m, memory: 64Mi}"),
];

/// (path, word, hint)
const VALUES: [(&str, &str, &str); 6] = [
    ("spec.restartPolicy", "unless-stopped", "Always restarts it until it is deleted"),
    ("spec.restartPolicy", "no", "write Never"),
    ("spec.network.mode", "bridge", "private is the nearest, and comes with a later version"),
    ("spec.runtime", "docker", "write oci"),
    ("spec.runtime", "wasmtime", "write wasm"),
    ("spec.runtime", "container", "write oci"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::shape::DOCUMENT;

    /// An answer that names a field which does not exist would send people in circles.
    #[test]
    fn what_is_suggested_exists() {
        let mut names = std::collections::BTreeSet::new();
        collect(&DOCUMENT, &mut names);
        for (parent, key, ours, _) in FIELDS {
            assert!(ours.split('.').all(|part| ours.is_empty() || names.contains(part)), "{key}: {ours}");
            let home = parent.split('.').filter(|p| !p.is_empty() && *p != "*");
            assert!(home.into_iter().all(|part| names.contains(part)), "{parent}");
        }
    }

    fn collect(shape: &crate::manifest::shape::Shape, names: &mut std::collections::BTreeSet<String>) {
        use crate::manifest::shape::Shape;
        match shape {
            Shape::Object(fields) => {
                for field in fields {
                    names.insert(field.name.clone());
                    collect(&field.shape, names);
                }
            }
            Shape::List(inner) | Shape::Map(inner) => collect(inner, names),
            Shape::Either(all) => all.iter().for_each(|one| collect(one, names)),
            _ => {}
        }
    }
}
