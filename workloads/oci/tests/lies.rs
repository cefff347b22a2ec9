//! What becomes of an image when its registry lies, floods, refuses or sends us elsewhere: one error that
//! names the image and the registry, nothing in the store under a name that it does not have, no password
//! for anybody else.

#[path = "fixtures/liar.rs"]
mod liar;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use liar::{Asked, Liar, answer};
use skerry_oci::image::{Image, Platform};
use skerry_oci::pull::{Options, PullError, Registries};
use skerry_oci::store::Store;
use skerry_oci::{Digest, ImageRef};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of one layer, honest.
#[derive(Clone)]
struct Honest {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

fn describe(kind: &str, bytes: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#,
        Digest::of(bytes),
        bytes.len()
    )
}

fn honest() -> Honest {
    let layer = vec![7; 5000];
    let config = format!(
        r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Platform::native().architecture,
        Digest::of(&layer)
    );
    let config = config.into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        describe("config.v1+json", &config),
        describe("layer.v1.tar", &layer)
    );
    Honest { layer, config, manifest: manifest.into_bytes() }
}

impl Honest {
    fn answer(&self, asked: &Asked) -> Vec<u8> {
        let has = [&self.layer, &self.config, &self.manifest];
        let digest = Digest::of(&self.manifest);
        let found = match asked.path.rsplit('/').next().unwrap() {
            "1" => Some(&self.manifest),
            name => has.into_iter().find(|bytes| Digest::of(bytes).to_string() == name),
        };
        match found {
            Some(bytes) if asked.head.starts_with("HEAD") => {
                let head = format!("docker-content-digest: {digest}\r\n");
                answer("200 OK", &head, b"").into_iter().chain(bytes.iter().take(0).copied()).collect()
            }
            Some(bytes) => answer("200 OK", "", bytes),
            None => answer(
                "404 Not Found",
                "",
                br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#,
            ),
        }
    }
}

fn pull(liar: &Liar, config: Option<&str>) -> (TempDir, Store, Result<Digest, PullError>) {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(tmp.path().join("store")).unwrap();
    let docker_config = config.map(|text| {
        let path = tmp.path().join("config.json");
        fs::write(&path, text.replace("HOST", &liar.host)).unwrap();
        path
    });
    let options = Options { plain_http: vec![liar.host.clone()], docker_config, roots: Vec::new() };
    let image: ImageRef = format!("{}/plant/a:1", liar.host).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registries = Registries::new(options).unwrap();
    let done = runtime.block_on(async {
        let there = registries.open(&image)?;
        let root = there.resolve().await?;
        for manifest in there.documents(&root, &store, &[Platform::native()]).await? {
            for layer in Image::read(&store, &manifest).unwrap().layers {
                there.blob(&layer.blob, layer.size_bytes, &store, &|_| {}).await?;
            }
        }
        Ok(root)
    });
    (tmp, store, done)
}

/// It fails, names image and registry, and says this.
#[track_caller]
fn fails(liar: &Liar, why: &str) -> String {
    let (_tmp, store, done) = pull(liar, None);
    let error = done.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}/plant/a:1: ", liar.host)), "{error}");
    assert!(error.contains(why), "{why}: {error}");
    assert_eq!(store.size(&Digest::of(&honest().layer)), None);
    error
}

/// Honest but for what `lie` says instead.
fn lying(lie: impl Fn(&Asked, &str, &Honest) -> Option<Vec<u8>> + Send + Sync + 'static) -> Liar {
    let honest = honest();
    Liar::start(move |asked, host| lie(asked, host, &honest).unwrap_or_else(|| honest.answer(asked)))
}

fn is_layer(asked: &Asked, honest: &Honest) -> bool {
    asked.path.ends_with(&Digest::of(&honest.layer).to_string())
}

#[test]
fn an_honest_one_is_believed() {
    let liar = lying(|_, _, _| None);
    let (_tmp, store, done) = pull(&liar, None);
    assert_eq!(done.unwrap(), Digest::of(&honest().manifest));
    assert_eq!(store.size(&Digest::of(&honest().layer)), Some(5000));
    // One that names no digest is asked for the whole, and hashed.
    let liar = lying(|asked, _, _| asked.head.starts_with("HEAD").then(|| answer("200 OK", "", b"")));
    assert_eq!(pull(&liar, None).2.unwrap(), Digest::of(&honest().manifest));
}

#[test]
fn other_bytes_than_were_asked_for_are_refused() {
    let other = |bytes: &'static [u8]| {
        lying(move |asked, _, honest| is_layer(asked, honest).then(|| answer("200 OK", "", bytes)))
    };
    fails(&other(&[8; 5000]), "sends something else for sha256:");
    fails(&other(&[7; 5001]), "longer than the 5000 bytes");
    let wrong = lying(|asked, _, _| {
        let wanted = asked.head.starts_with("GET") && asked.path.contains("/manifests/");
        wanted.then(|| answer("200 OK", "", b"{}"))
    });
    fails(&wrong, "for the manifest sha256:");
    let sha512 = lying(|asked, _, _| {
        asked.head.starts_with("HEAD").then(|| answer("200 OK", "docker-content-digest: sha512:00\r\n", b""))
    });
    fails(&sha512, "names it 'sha512:00', which is no sha256 digest");
}

#[test]
fn one_that_always_ends_too_early_is_given_up() {
    let liar = lying(|asked, _, honest| {
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_vec();
        is_layer(asked, honest).then_some(cut)
    });
    fails(&liar, "at byte 0 of 5000");
}

#[test]
fn documents_and_tokens_are_bounded() {
    let announced = lying(|asked, _, _| {
        let get = asked.head.starts_with("GET") && asked.path.contains("/manifests/");
        get.then(|| b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n{".to_vec())
    });
    fails(&announced, "sends more than 4194304 bytes as a document");
    let unannounced = lying(|asked, _, _| {
        let get = asked.head.starts_with("GET") && asked.path.contains("/manifests/");
        get.then(|| {
            [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".as_slice(), &vec![b' '; 9 << 20]].concat()
        })
    });
    fails(&unannounced, "sends more than 4194304 bytes as a document");
    let token = lying(|asked, host, _| {
        let challenge = format!("www-authenticate: Bearer realm=\"http://{host}/token\"\r\n");
        Some(match asked.path.starts_with("/token") {
            true => answer("200 OK", "", &vec![b' '; 1 << 20]),
            false => answer("401 Unauthorized", &challenge, b""),
        })
    });
    fails(&token, "sends more than 65536 bytes as a document");
    // A configuration is a document too.
    let mut big = honest();
    let text = String::from_utf8(big.manifest.clone()).unwrap();
    big.manifest =
        text.replacen(&format!("\"size\":{}", big.config.len()), "\"size\":99999999999", 1).into_bytes();
    fails(&Liar::start(move |asked, _| big.answer(asked)), "config.size: 99999999999 bytes are more than");
}

#[test]
fn what_is_no_image_is_named() {
    let with = |manifest: String| {
        let mut image = honest();
        image.manifest = manifest.into_bytes();
        Liar::start(move |asked, _| image.answer(asked))
    };
    let honest = String::from_utf8(honest().manifest).unwrap();
    fails(&with("<html>".into()), "manifest sha256:");
    let chart = honest
        .replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    fails(&with(chart), "config.mediaType: 'application/vnd.cncf.helm.config.v1+json' is not");
    let inner = format!(r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":2}}"#, Digest::of(b"x"));
    let list = format!(r#"{{"schemaVersion":2,"manifests":[{inner}]}}"#);
    fails(&with(list), "there is no such image");
    fails(&lying(|_, _, _| Some(answer("404 Not Found", "", b"no"))), "there is no such image at 127.0.0.1:");
    let envelope = br#"{"errors":[{"code":"X","message":"go\naway"}]}"#;
    fails(&lying(|_, _, _| Some(answer("418 Teapot", "", envelope))), "answers 418 I'm a teapot");
}

#[test]
fn redirects_are_followed_within_bounds_and_never_into_the_clear() {
    let elsewhere = Liar::start(|_, _| answer("200 OK", "", &honest().layer));
    let there = elsewhere.host.clone();
    let liar = lying(move |asked, _, honest| {
        is_layer(asked, honest)
            .then(|| answer("307 Temporary Redirect", &format!("location: http://{there}/x\r\n"), b""))
    });
    fails(&liar, &format!("redirects to {} without TLS", elsewhere.host));
    assert!(elsewhere.asked("").is_empty());
    let round = lying(|asked, host, honest| {
        let location = format!("location: http://{host}{}\r\n", asked.path);
        is_layer(asked, honest).then(|| answer("307 Temporary Redirect", &location, b""))
    });
    fails(&round, "more than 5 redirects");
}

#[test]
fn a_token_is_fetched_with_the_password_and_nobody_else_gets_either() {
    const LOGIN: &str = r#"{"auths":{"HOST":{"auth":"cHJlc3M6c2VjcmV0"}}}"#;
    let liar = lying(|asked, host, honest| {
        if asked.path.starts_with("/token?") {
            assert!(asked.path.contains("scope=repository%3Aplant%2Fa%3Apull"), "{}", asked.path);
            let fine = asked.header("authorization") == Some("Basic cHJlc3M6c2VjcmV0");
            return Some(match fine {
                true => answer("200 OK", "", br#"{"token":"t0ken"}"#),
                false => answer("401 Unauthorized", "", b""),
            });
        }
        let challenge = format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\n");
        let unknown = asked.header("authorization") != Some("Bearer t0ken");
        let localhost = format!("location: http://{}/layer\r\n", host.replace("127.0.0.1", "localhost"));
        match asked.path.as_str() {
            "/layer" => Some(answer("200 OK", "", &honest.layer)),
            _ if unknown => Some(answer("401 Unauthorized", &challenge, b"")),
            _ => is_layer(asked, honest).then(|| answer("307 Temporary Redirect", &localhost, b"")),
        }
    });
    let error = fails(&liar, "refuses access without a login (401 Unauthorized)");
    assert!(error.contains("docker login 127.0.0.1"), "{error}");
    // The other host is one that may be spoken to in the clear, but not with our password.
    let tmp = tempfile::tempdir().unwrap();
    let config = tmp.path().join("config.json");
    fs::write(&config, LOGIN.replace("HOST", &liar.host)).unwrap();
    let other = liar.host.replace("127.0.0.1", "localhost");
    let options = Options {
        plain_http: vec![liar.host.clone(), other],
        docker_config: Some(config),
        roots: Vec::new(),
    };
    let image: ImageRef = format!("{}/plant/a:1", liar.host).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registries = Registries::new(options).unwrap();
    let store = Store::open(tmp.path().join("store")).unwrap();
    let layer = Digest::of(&honest().layer);
    runtime.block_on(async { registries.open(&image)?.blob(&layer, 5000, &store, &|_| {}).await }).unwrap();
    let [there] = &*liar.asked("/layer") else { panic!("{:?}", liar.asked("")) };
    assert_eq!(there.header("authorization"), None);

    // A token service elsewhere, without TLS, is not asked.
    let elsewhere = Liar::start(|_, _| answer("200 OK", "", br#"{"token":"t"}"#));
    let realm = format!("www-authenticate: Bearer realm=\"http://{}/t\"\r\n", elsewhere.host);
    let liar = lying(move |_, _, _| Some(answer("401 Unauthorized", &realm, b"")));
    let error = pull(&liar, Some(LOGIN)).2.unwrap_err().to_string();
    assert!(error.contains("for a token, without TLS") && elsewhere.asked("").is_empty(), "{error}");
    for (challenge, why) in
        [("", "refuses access"), ("www-authenticate: Bearer realm=\"?\"\r\n", "no token service")]
    {
        fails(&lying(move |_, _, _| Some(answer("401 Unauthorized", challenge, b""))), why);
    }
}

#[test]
fn a_wait_that_a_registry_asks_for_is_kept_if_it_is_bearable() {
    let asked_before = AtomicUsize::new(0);
    let liar = lying(move |asked, _, honest| {
        let first = is_layer(asked, honest) && asked_before.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| answer("429 Too Many Requests", "retry-after: 1\r\n", b""))
    });
    let start = Instant::now();
    pull(&liar, None).2.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let liar = lying(|_, _, _| Some(answer("429 Too Many Requests", "retry-after: 3600\r\n", b"")));
    fails(&liar, "too many requests, try again after 3600 s");
    assert_eq!(liar.asked("").len(), 1, "and it is left alone");
    fails(&lying(|_, _, _| Some(answer("429 Too Many Requests", "", b""))), "too many requests (429");
    fails(&lying(|_, _, _| Some(answer("502 Bad Gateway", "", b"<html>"))), "answers 502 Bad Gateway");
}
