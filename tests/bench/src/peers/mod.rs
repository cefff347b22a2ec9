//! Who else does this, and how long do they take here, in the same rounds?
//!
//! Nothing is installed or started as a service: a peer that is not there is named and left out.

mod ankaios;
mod swarm;

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::figures::Figures;
use crate::scene::{moment, ms};

pub trait Peer {
    fn name(&self) -> &'static str;
    /// The beginning of its figures' ids.
    fn id(&self) -> &'static str;
    /// Ask for one workload to be run.
    fn apply(&mut self, workload: &str) -> Result<(), String>;
    /// The host's pid of its first process, once it runs.
    fn pid(&self, workload: &str) -> Option<u32>;
    fn delete(&mut self, workload: &str) -> Result<(), String>;
}

pub fn installed(figures: &mut Figures) -> Vec<Box<dyn Peer>> {
    let found: [Result<Box<dyn Peer>, String>; 2] = [
        ankaios::find().map(|p| Box::new(p) as Box<dyn Peer>),
        swarm::find().map(|p| Box::new(p) as Box<dyn Peer>),
    ];
    let mut peers = Vec::new();
    for peer in found {
        match peer {
            Ok(peer) => peers.push(peer),
            Err(why) => figures.note(format!("Left out: {why}.")),
        }
    }
    peers
}

pub fn round(peer: &mut dyn Peer, figures: &mut Figures) {
    let workload = format!("bench{}", std::process::id());
    let sent = Instant::now();
    peer.apply(&workload).unwrap_or_else(|why| panic!("{}: {why}", peer.name()));
    let mut first = None;
    let runs = moment("the peer's workload runs", || {
        first = peer.pid(&workload);
        first.is_some()
    });
    figures.add(&format!("{}.apply.runs", peer.id()), ms(sent, runs));
    let killed = Instant::now();
    e2e::kill9(first.expect("just seen"));
    let replaced = moment("the peer's workload runs again", || {
        peer.pid(&workload).is_some_and(|pid| Some(pid) != first)
    });
    figures.add(&format!("{}.restart.runs", peer.id()), ms(killed, replaced));
    peer.delete(&workload).unwrap_or_else(|why| panic!("{}: {why}", peer.name()));
    moment("the peer's workload is gone", || peer.pid(&workload).is_none());
}

/// Its output, if it succeeded.
fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("{program}: {why}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program} {}: {}", args.join(" "), text(&output.stderr)))
    }
}

/// What containers of peers are made of; it must be there, nothing is pulled.
fn image() -> String {
    std::env::var("SKERRY_BENCH_IMAGE").unwrap_or_else(|_| "docker.io/library/busybox:latest".to_string())
}
