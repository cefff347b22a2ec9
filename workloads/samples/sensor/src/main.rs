//! Reads a number from a file and publishes it by MQTT, again and again, whatever happens to the broker.
//!
//! `sensor --broker HOST:PORT --file PATH [--topic T] [--interval MS] [--qos 0|1] [--id ID] [--count N]`
//!
//! Its manifest must allow the broker (`network.connect`) and mount the file's directory.

mod mqtt;

use std::process::exit;
use std::time::Duration;

use mqtt::{Connection, Qos};

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

struct Options {
    broker: String,
    file: String,
    topic: String,
    interval: Duration,
    qos: Qos,
    id: String,
    /// End after so many readings; 0 is never.
    count: u64,
}

fn main() {
    let options = Options::from_args();
    let mut sent = 0;
    let mut backoff = BACKOFF_FIRST;
    loop {
        let error = match open(&options) {
            Ok(connection) => {
                println!("connected to {}", options.broker);
                backoff = BACKOFF_FIRST;
                publish_until_broken(connection, &options, &mut sent)
            }
            Err(e) => e,
        };
        println!("no connection to {}: {error}; again in {} ms", options.broker, backoff.as_millis());
        std::thread::sleep(backoff);
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn open(options: &Options) -> std::io::Result<Connection> {
    // Two missed readings and the broker may take us for gone.
    let keep_alive = (options.interval.as_secs() * 2 + 5).min(u64::from(u16::MAX)) as u16;
    Connection::open(&options.broker, &options.id, keep_alive)
}

/// Ends the program when all is sent; returns why the connection is over.
fn publish_until_broken(mut connection: Connection, options: &Options, sent: &mut u64) -> std::io::Error {
    loop {
        match read_number(&options.file) {
            Ok(value) => {
                let payload = format!("{value}");
                if let Err(e) = connection.publish(&options.topic, payload.as_bytes(), options.qos) {
                    return e;
                }
                println!("{} {payload}", options.topic);
                *sent += 1;
                if *sent == options.count {
                    connection.close();
                    exit(0);
                }
            }
            Err(why) => println!("no reading: {}: {why}", options.file),
        }
        std::thread::sleep(options.interval);
    }
}

fn read_number(path: &str) -> Result<f64, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    text.trim().parse().map_err(|_| format!("`{}` is not a number", text.trim()))
}

impl Options {
    fn from_args() -> Self {
        let mut options = Options {
            broker: String::new(),
            file: String::new(),
            topic: "sensor/value".into(),
            interval: Duration::from_secs(1),
            qos: Qos::AtMostOnce,
            id: "sensor".into(),
            count: 0,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().unwrap_or_else(|| usage(&format!("{name} needs a value")));
            match name.as_str() {
                "--broker" => options.broker = value,
                "--file" => options.file = value,
                "--topic" => options.topic = value,
                "--id" => options.id = value,
                "--interval" => options.interval = Duration::from_millis(number(&name, &value).max(10)),
                "--count" => options.count = number(&name, &value),
                "--qos" => options.qos = qos(&value),
                _ => usage(&format!("unknown option {name}")),
            }
        }
        if options.broker.is_empty() || options.file.is_empty() {
            usage("--broker and --file are needed");
        }
        options
    }
}

fn number(name: &str, value: &str) -> u64 {
    value.parse().unwrap_or_else(|_| usage(&format!("{name} needs a number, not `{value}`")))
}

fn qos(value: &str) -> Qos {
    match value {
        "0" => Qos::AtMostOnce,
        "1" => Qos::AtLeastOnce,
        _ => usage(&format!("--qos is 0 or 1, not `{value}`")),
    }
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}");
    eprintln!(
        "sensor --broker HOST:PORT --file PATH [--topic T] [--interval MS] [--qos 0|1] [--id ID] [--count N]"
    );
    exit(2)
}
