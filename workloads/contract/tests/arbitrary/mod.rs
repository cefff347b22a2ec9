//! Workloads of every shape, legal in form (not all admissible).

use std::collections::BTreeMap;

use contract::TaintEffect;
use contract::id::Name;
use contract::quantity::{Bytes, Cpu, Duration};
use contract::spec::*;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use skerry_contract as contract;

/// Texts that printers get wrong, among others.
fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "",
        " ",
        "~",
        "null",
        "yes",
        "1.10",
        "0x1F",
        "1_000",
        "- a",
        "a: b",
        "#x",
        "a #b",
        "'",
        "\"",
        "\\",
        "|",
        ">",
        "\n",
        "a\nb\n",
        "\t",
        "\r\n",
        "---",
        "...",
        "--- a",
        "&a",
        "*a",
        "!a",
        "%a",
        "@",
        "`",
        "{",
        "[",
        "]",
        ",",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\u{7f}",
        "\u{0}",
        "\u{fffe}",
        "\u{1f600}",
        "é",
        "${agent.labels.x}",
        "<<",
        "=",
        "?",
        "? a",
        ":",
        "a:",
        "2024-01-01",
        "12:30",
        "1e3",
        ".inf",
        "0o7",
        "true",
        "a\u{a0}b",
        "\u{1b}",
    ])
    .prop_map(str::to_string);
    prop_oneof![odd, "[a-z0-9./:-]{1,12}", any::<String>().prop_map(|s| s.chars().take(20).collect())]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?".prop_map(|s| s.parse().unwrap())
}

/// Keys that the reader takes: not empty-looking, not the merge key, short.
fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z_][A-Za-z0-9_./-]{0,10}", text().prop_filter("short", |s| s.len() < 100)]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

fn map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(key(), text(), 0..4)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![any::<u32>().prop_map(|n| Bytes(n.into())), (1u64..2000).prop_map(|n| Bytes(n << 20))]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0u64..100_000_000).prop_map(|ms| Duration { ms }),
        (1u64..90).prop_map(|s| Duration { ms: s * 1000 })
    ]
}

fn env() -> impl Strategy<Value = EnvValue> {
    prop_oneof![
        4 => text().prop_map(EnvValue::Text),
        1 => (name(), text(), any::<bool>())
            .prop_map(|(secret, key, optional)| EnvValue::Secret(SecretKey { secret, key, optional })),
        1 => (name(), text(), any::<bool>())
            .prop_map(|(config, key, optional)| EnvValue::Config(ConfigKey { config, key, optional })),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let operator =
        prop::sample::select(vec![Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist]);
    let expression =
        (text(), operator, texts()).prop_map(|(key, operator, values)| Expression { key, operator, values });
    (map(), vec(expression, 0..3))
        .prop_map(|(match_labels, match_expressions)| Selector { match_labels, match_expressions })
}

fn toleration() -> impl Strategy<Value = Toleration> {
    let operator = of(prop::sample::select(vec![TolerationOperator::Equal, TolerationOperator::Exists]));
    let effects = vec![TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule, TaintEffect::NoExecute];
    (of(text()), operator, of(text()), of(prop::sample::select(effects)))
        .prop_map(|(key, operator, value, effect)| Toleration { key, operator, value, effect })
}

fn placement() -> impl Strategy<Value = Placement> {
    let preference =
        (of(any::<u32>()), selector()).prop_map(|(weight, selector)| Preference { weight, selector });
    let affinity = (vec(selector(), 0..2), vec(preference, 0..2))
        .prop_map(|(required, preferred)| Affinity { required, preferred });
    (of(selector()), of(text()), of(text()), of(affinity), vec(toleration(), 0..2)).prop_map(
        |(selector, spread, arch, affinity, tolerations)| Placement {
            selector,
            spread,
            arch,
            affinity,
            tolerations,
        },
    )
}

fn mount() -> impl Strategy<Value = Mount> {
    let from = (of(name()), of(text()), of(bytes()), of(name()), of(name()));
    let data = (of(text()), of(text()), of(text()), any::<bool>());
    (from, text(), of(bytes()), any::<bool>(), data).prop_map(
        |(
            (volume, host_path, tmpfs, config, secret),
            path,
            size,
            read_only,
            (key, mode, owner, optional),
        )| Mount {
            volume,
            host_path,
            tmpfs,
            config,
            secret,
            key,
            mode,
            owner,
            optional,
            path,
            size,
            read_only,
        },
    )
}

fn network() -> impl Strategy<Value = Network> {
    let mode = prop::sample::select(vec![NetworkMode::None, NetworkMode::Host, NetworkMode::Private]);
    (of(mode), texts(), vec(any::<u16>(), 0..3)).prop_map(|(mode, connect, listen)| Network {
        mode,
        connect,
        listen,
    })
}

fn probe() -> impl Strategy<Value = Probe> {
    let scheme = prop::sample::select(vec![Scheme::Http, Scheme::Https]);
    let http = (any::<u16>(), of(text()), of(text()), of(scheme), map())
        .prop_map(|(port, path, host, scheme, headers)| HttpGet { port, path, host, scheme, headers });
    let tcp = (any::<u16>(), of(text())).prop_map(|(port, host)| TcpProbe { port, host });
    let times = (of(duration()), of(duration()), of(duration()));
    (of(texts()), of(http), of(tcp), times, of(any::<u32>())).prop_map(
        |(exec, http_get, tcp, (initial_delay, period, timeout), n)| Probe {
            exec,
            http_get,
            tcp,
            initial_delay,
            period,
            timeout,
            success_threshold: n,
            failure_threshold: n,
        },
    )
}

fn rollout() -> impl Strategy<Value = Rollout> {
    let batch = (of(text()), of(selector())).prop_map(|(size, selector)| Batch { size, selector });
    let disruption = (of(text()), of(any::<u32>()))
        .prop_map(|(group_by, max_unavailable)| Disruption { group_by, max_unavailable });
    (vec(batch, 0..3), of(text()), of(duration()), of(duration()), of(text()), of(disruption)).prop_map(
        |(batches, success_threshold, healthy_after, deadline, on_failure, disruption)| Rollout {
            batches,
            success_threshold,
            healthy_after,
            deadline,
            on_failure,
            disruption,
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    (of(any::<u32>()), of(bytes()), of(any::<u32>()), of(bytes())).prop_map(|(cpu, memory, pids, storage)| {
        Resources { cpu: cpu.map(|millis| Cpu { millis }), memory, pids, storage }
    })
}

fn first_half() -> impl Strategy<Value = WorkloadSpec> {
    let runtime = of(prop::sample::select(vec![Runtime::Wasm, Runtime::Oci]));
    let lists = (texts(), texts(), btree_map(key(), env(), 0..4), of(text()));
    let counts = (any::<bool>(), of(any::<u32>()), of(placement()), of(resources()));
    (text(), runtime, lists, counts, of(network()), vec(mount(), 0..3)).prop_map(
        |(
            image,
            runtime,
            (command, args, env, workdir),
            (every_agent, replicas, placement, resources),
            network,
            mounts,
        )| {
            WorkloadSpec {
                image,
                runtime,
                command,
                args,
                hostname: workdir.clone(),
                workdir,
                env,
                every_agent,
                priority: replicas.map(|n| n as i32),
                replicas,
                placement,
                resources,
                network,
                mounts,
                ..WorkloadSpec::default()
            }
        },
    )
}

fn security() -> impl Strategy<Value = Security> {
    let capabilities = (texts(), texts()).prop_map(|(add, drop)| Capabilities { add, drop });
    (of(text()), any::<bool>(), of(capabilities)).prop_map(|(user, flag, capabilities)| Security {
        user,
        read_only_root: flag,
        capabilities,
        privileged: !flag,
    })
}

fn disconnect() -> impl Strategy<Value = Disconnect> {
    (of(duration()), of(any::<bool>()), of(text()), of(text())).prop_map(
        |(lost_after, replace, stop_after, on_return)| Disconnect {
            lost_after,
            replace,
            stop_after,
            on_return,
        },
    )
}

fn second_half(spec: WorkloadSpec) -> impl Strategy<Value = WorkloadSpec> {
    let policy =
        prop::sample::select(vec![RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]);
    let stop = (of(text()), of(duration())).prop_map(|(signal, grace)| Stop { signal, grace });
    let port =
        (of(text()), any::<u16>(), of(any::<u16>())).prop_map(|(name, port, host)| Port { name, port, host });
    let device = (text(), of(text()), of(text())).prop_map(|(path, inside, access)| DeviceMount {
        path,
        inside,
        access,
    });
    let dependency =
        (name(), of(text())).prop_map(|(workload, condition)| Dependency { workload, condition });
    let autoscale = (any::<u32>(), any::<u32>(), text(), text())
        .prop_map(|(min, max, metric, target)| Autoscale { min, max, metric, target });
    let lists = (vec(port, 0..2), vec(device, 0..2), vec(dependency, 0..2));
    let job = (any::<bool>(), of(text()), of(any::<u32>()), of(duration()), of(autoscale));
    let whole = (of(policy), of(stop), of(probe()), of(rollout()), of(disconnect()), of(security()));
    (lists, job, whole).prop_map(move |(lists, job, whole)| WorkloadSpec {
        ports: lists.0,
        devices: lists.1,
        depends_on: lists.2,
        exclusive: job.0,
        schedule: job.1,
        completions: job.2,
        deadline: job.3,
        autoscale: job.4,
        restart_policy: whole.0,
        stop: whole.1,
        liveness_probe: whole.2.clone(),
        startup_probe: whole.2,
        rollout: whole.3,
        disconnect: whole.4,
        security: whole.5,
        ..spec.clone()
    })
}

pub fn workload() -> impl Strategy<Value = Workload> {
    let metadata = (name(), name(), map(), map())
        .prop_map(|(name, namespace, labels, annotations)| Metadata { name, namespace, labels, annotations });
    (metadata, first_half().prop_flat_map(second_half))
        .prop_map(|(metadata, spec)| Workload { metadata, spec })
}
