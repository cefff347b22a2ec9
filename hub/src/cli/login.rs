//! `hub login`: an address, the CA behind it and a token, looked at before they are kept.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use clap::Args;
use contract::Digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::client::{self, Client};
use super::context::{self, Context, HubArgs};
use super::exit::{Code, Done, Failure};
use crate::api::access::WhoAmI;

#[derive(Debug, Args)]
#[command(after_help = "\
The token is read from --token-file, SKERRY_TOKEN, or what is piped in; never from the command line,
where others could read it. Examples:
  hub login https://hub:7711 --ca-pin sha256:4f… < token
  hub login http://127.0.0.1:7711 --token-file /var/lib/skerry/hub/token --name here")]
pub struct LoginArgs {
    /// The hub's address
    url: String,
    /// The fingerprint of its CA, as 'hub ca show' prints it there; or --ca FILE
    #[arg(long, value_name = "SHA256", env = "SKERRY_CA_PIN")]
    ca_pin: Option<String>,
    /// The context's name; the host's when left out
    #[arg(long)]
    name: Option<String>,
}

pub fn main(args: &LoginArgs, hub: &HubArgs) -> Done {
    let ca = ca(args, hub)?;
    let context = Context::of(&args.url, token(hub)?, ca.clone())?;
    let client = Client::new(context.clone())?;
    let who: WhoAmI = client.get("/v1/whoami")?;
    let name = args.name.clone().unwrap_or_else(|| host(&args.url).to_string());
    context::keep(&name, &context, ca)?;
    say!("logged in to {} as {} (context {name})", args.url, who.name);
    Ok(())
}

fn token(hub: &HubArgs) -> Done<String> {
    let text = match (&hub.token_file, context::env_token()) {
        (Some(file), _) if !context::from_env(hub) => read(file)?,
        (_, Some(token)) => token,
        (Some(file), None) => read(file)?,
        (None, None) if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("no token: give --token-file, SKERRY_TOKEN, or pipe it in"));
        }
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
            text
        }
    };
    context::checked_token(text.trim(), "what was given")
}

const TOKEN_BYTES_MAX: u64 = 4_096;

fn read(file: &PathBuf) -> Done<String> {
    std::fs::read_to_string(file)
        .map_err(|why| Failure::usage(format!("cannot read {}: {why}", file.display())))
}

/// The CA's certificate: from a file, or from the hub if it has the fingerprint that was told.
fn ca(args: &LoginArgs, hub: &HubArgs) -> Done<Option<String>> {
    if !args.url.starts_with("https://") {
        return Ok(None);
    }
    if let Some(file) = &hub.ca {
        return read(file).map(Some);
    }
    let pem = client::stranger(&args.url, "/v1/ca")?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    let der =
        der.map_err(|_| Failure::new(Code::Internal, "what answers there is no hub: it shows no CA"))?;
    let shown = Digest::of(&der);
    let bare = |text: &str| text.trim().trim_start_matches("sha256:").replace(':', "").to_lowercase();
    match &args.ca_pin {
        Some(pin) if bare(pin) == shown.hex() => Ok(Some(pem)),
        Some(pin) => Err(Failure::new(
            Code::Unreachable,
            format!("--ca-pin is {pin}, but what answers at {} shows {shown}: it is not that hub", args.url),
        )),
        None => Err(Failure::usage(format!(
            "what answers at {} shows the CA {shown}\nCompare it with 'hub ca show' on the hub's machine; if it is the same:\n  hub login {} --ca-pin {shown}",
            args.url, args.url
        ))),
    }
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    rest.rsplit_once(':').map_or(rest, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_context_is_named_after_its_host() {
        for (url, host) in
            [("https://hub:7711", "hub"), ("http://10.0.0.1", "10.0.0.1"), ("https://h/x", "h")]
        {
            assert_eq!(super::host(url), host);
        }
    }
}
