//! Who we are to a registry: what `docker login` left in its configuration.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::login::Login;

/// Docker Hub has three names, and Docker writes the oldest.
const HUB: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"];

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

pub fn find(config: Option<&Path>, host: &str) -> Result<Option<Login>, String> {
    let Some(path) = config else { return Ok(None) };
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    in_config(&text, host).map_err(|why| format!("{}: {why}", path.display()))
}

fn in_config(text: &[u8], host: &str) -> Result<Option<Login>, String> {
    let config: Config = crate::image::document::read(text)?;
    let names: Vec<&str> = if HUB.contains(&host) { HUB.to_vec() } else { vec![host] };
    let plain = |key: &str| {
        key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_string()
    };
    let is_it = |key: &String| names.iter().any(|n| n == key || *n == plain(key));
    match config.auths.iter().find(|(key, _)| is_it(key)) {
        Some((key, login)) if login.is_empty() => helper(&config, key),
        Some((key, login)) => login.auth().map_err(|why| format!("auths.{key}{why}")),
        None if config.cred_helpers.keys().any(is_it) => helper(&config, host),
        None => Ok(None),
    }
}

/// A program of the desktop keeps the password; a service has no desktop.
fn helper(config: &Config, key: &str) -> Result<Option<Login>, String> {
    let name = config.cred_helpers.get(key).or(config.creds_store.as_ref());
    match name {
        None => Ok(None),
        Some(name) => {
            Err(format!("{key} is kept by the credential helper '{name}'; put 'auth' into the file itself"))
        }
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.auth.is_none() && self.username.is_none() && self.identitytoken.is_none()
    }

    fn auth(&self) -> Result<Option<Login>, String> {
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Login { user: user.clone(), password: password.clone() }));
        }
        if self.identitytoken.as_ref().is_some_and(|t| !t.is_empty()) {
            return Err(".identitytoken: not understood; log in with a password or an access token".into());
        }
        let decoded = STANDARD.decode(self.auth.as_deref().unwrap_or_default().trim());
        let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|t| t.split_once(':')) {
            Some((user, password)) => {
                let password = password.trim_end_matches('\0').into();
                Ok(Some(Login { user: user.into(), password }))
            }
            None => Err(".auth: it should be base64 of user:password".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_as_docker_writes_them() {
        let text = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"reg.io:5000":{"username":"c","password":"d:e"},
            "http://old.io/":{"auth":"Zjpn"}},"HttpHeaders":{}}"#;
        let basic = |u: &str, p: &str| Ok(Some(Login { user: u.into(), password: p.into() }));
        assert_eq!(in_config(text, "docker.io"), basic("a", "b"));
        assert_eq!(in_config(text, "reg.io:5000"), basic("c", "d:e"));
        assert_eq!(in_config(text, "old.io"), basic("f", "g"));
        assert_eq!(in_config(text, "other.io"), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, why) in [
            (r#"{"auths":{"a.io":{"auth":"?"}}}"#, "auths.a.io.auth: it should be base64"),
            (r#"{"auths":{"a.io":{"identitytoken":"x"}}}"#, "identitytoken"),
            (r#"{"auths":{"a.io":{}},"credsStore":"desktop"}"#, "helper 'desktop'"),
            (r#"{"credHelpers":{"a.io":"gcloud"}}"#, "helper 'gcloud'"),
            (r#"{"auths":[]}"#, "auths"),
        ] {
            let error = in_config(text.as_bytes(), "a.io").unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
