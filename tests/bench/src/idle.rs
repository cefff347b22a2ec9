//! What does a board cost that has nothing to do?
//!
//! Two boards with ten quiet workloads each, over the same window. One has the usual heartbeat: its
//! wake-ups, CPU and written bytes are taken. The other beats every five seconds through a counting
//! proxy: that gives the bytes of one heartbeat, and an hour is four of them and four pings.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::figures::Figures;
use crate::process::{cpu_ms, switches, written};
use crate::proxy::{self, PING_IP_BYTES};
use crate::scene::fleet;

const WORKLOADS: usize = 10;
const CPU_MILLIS: u32 = 50;
const BEAT: Duration = Duration::from_secs(5);
/// Heartbeat and keep-alive are ten minutes by default.
const BEATS_AN_HOUR: f64 = 4.0;
const PINGS_AN_HOUR: f64 = 4.0;

pub fn measure(figures: &mut Figures, window: Duration) {
    let (quiet, _) = fleet(WORKLOADS, CPU_MILLIS, &[]);
    let (mut beating, _) = fleet(WORKLOADS, CPU_MILLIS, &["--heartbeat", &format!("{}s", BEAT.as_secs())]);
    let (port, count) = proxy::start(beating.hub.mqtt);
    beating.boards[0].kill();
    beating.boards[0].set_broker(port);
    beating.boards[0].revive();
    beating.boards[0].answers();
    e2e::until("it is online through the proxy", || {
        count.payload_bytes() > 0 && beating.hub.get("/v1/agents/board-0")["state"] == "online"
    });
    // The last commits of the start-up are on disk by then.
    std::thread::sleep(2 * BEAT);

    let pid = quiet.boards[0].process.pid();
    let (agent, shims) = (pid, quiet.boards[0].pids());
    let all = || shims.values().chain([&agent]).map(|pid| written(*pid)).sum::<u64>();
    let (threads, cpu, disk, wire) =
        (switches(pid), cpu_ms(pid), all(), (count.ip_bytes(), count.payload_bytes(), count.said()));
    eprintln!("idle for {window:?}");
    std::thread::sleep(window);
    let minutes = window.as_secs_f64() / 60.0;
    let rates = rates(&threads, &switches(pid), minutes);
    let (sled, own): (Vec<_>, Vec<_>) = rates.iter().partition(|(name, _)| is_sled(name));
    figures.add("idle.switches", own.iter().map(|(_, rate)| **rate).sum());
    figures.add("idle.switches.sled", sled.iter().map(|(_, rate)| **rate).sum());
    figures.add("idle.cpu", (cpu_ms(pid) - cpu) / minutes);
    figures.add("idle.written", (all() - disk) as f64 / minutes);

    let beats = count.said() - wire.2;
    assert!(beats > 0, "no heartbeat in {window:?}");
    let (ip, payload) = (count.ip_bytes() - wire.0, count.payload_bytes() - wire.1);
    let beat = ip as f64 / beats as f64;
    figures.add("idle.wire.beat", beat);
    figures.add("idle.wire.hour", beat * BEATS_AN_HOUR + PING_IP_BYTES as f64 * PINGS_AN_HOUR);
    let threads: Vec<String> = rates.iter().map(|(name, rate)| format!("{name} {rate:.1}")).collect();
    figures.note(format!(
        "Idle: {WORKLOADS} workloads, {:.0} s; switches a minute by thread: {}.",
        window.as_secs_f64(),
        threads.join(", ")
    ));
    figures.note(format!(
        "Wire: {beats} heartbeats counted at a proxy ({payload} bytes of MQTT, {ip} with computed IP and TCP headers and one bare ACK per segment); an hour is {BEATS_AN_HOUR} of them and {PINGS_AN_HOUR} pings of {PING_IP_BYTES} bytes."
    ));
    quiet.finish();
    beating.finish();
}

fn is_sled(thread: &str) -> bool {
    thread.starts_with("sled") || thread.starts_with("log flusher")
}

/// By name: threads of a pool share one.
fn rates(
    before: &BTreeMap<u32, (String, u64)>,
    after: &BTreeMap<u32, (String, u64)>,
    minutes: f64,
) -> BTreeMap<String, f64> {
    let mut rates = BTreeMap::new();
    for (thread, (name, count)) in after {
        let old = before.get(thread).map_or(0, |(_, count)| *count);
        *rates.entry(name.clone()).or_default() += count.saturating_sub(old) as f64 / minutes;
    }
    rates
}
