//! Answers over HTTP, and says of itself whether it is well: something for probes to ask.
//!
//! `web PORT [--starts-in MS]`. `/healthz` and `/ready` answer 200, or 503 after `GET /set?healthz=off` and
//! `GET /set?ready=off` (`on` again). `/set?hang=on` makes it take connections and say nothing more.
//! `/moved` leads to `/ready`, `/away` to another host. `/count` tells how often each page was asked for. Until
//! `--starts-in` has passed it listens not at all.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (port, wait) = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [port] => (port.parse(), Ok(0)),
        [port, "--starts-in", ms] => (port.parse(), ms.parse()),
        _ => return fail("web PORT [--starts-in MS]"),
    };
    let (Ok(port), Ok(wait)) = (port, wait) else { return fail("PORT and MS are whole numbers") };
    std::thread::sleep(Duration::from_millis(wait));
    match serve(port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&format!("port {port}: {why}")),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening on {}", listener.local_addr()?);
    let mut web = Web::default();
    for stream in listener.incoming() {
        // One that goes away is its own affair.
        let _ = web.answer(&mut stream?);
        if web.is("hang") {
            println!("hanging");
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Web {
    set: BTreeMap<String, bool>,
    asked: BTreeMap<String, u64>,
}

impl Web {
    fn is(&self, name: &str) -> bool {
        self.set.get(name).copied().unwrap_or(name != "hang")
    }

    fn answer(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        let Some(target) = target(stream)? else { return Ok(()) };
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        *self.asked.entry(path.to_string()).or_default() += 1;
        let (status, more, body) = self.page(path, query);
        write!(
            stream,
            "HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn page(&mut self, path: &str, query: &str) -> (&'static str, String, String) {
        let text = |status, body: &str| (status, String::new(), format!("{body}\n"));
        match path {
            "/healthz" | "/ready" if self.is(&path[1..]) => text("200 OK", "well"),
            "/healthz" | "/ready" => text("503 Service Unavailable", "told to be ill"),
            "/set" => {
                let (name, value) = query.split_once('=').unwrap_or((query, "on"));
                self.set.insert(name.to_string(), value == "on");
                text("200 OK", query)
            }
            "/moved" => ("302 Found", "Location: /ready\r\n".into(), String::new()),
            "/away" => ("302 Found", "Location: http://192.0.2.1/nowhere\r\n".into(), String::new()),
            "/count" => {
                let lines: Vec<String> = self.asked.iter().map(|(path, n)| format!("{path} {n}")).collect();
                text("200 OK", &lines.join("\n"))
            }
            "/" => text("200 OK", "a page of the sample 'web'"),
            _ => text("404 Not Found", "no such page"),
        }
    }
}

/// What is asked for, once the head is in; none when nobody asked (a TCP probe, say).
fn target(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < 8192 {
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            n => head.extend_from_slice(&buffer[..n]),
        }
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head.split(' ').nth(1).map(str::to_string))
}
