//! From the file that somebody names to code that this engine runs. A board carries no compiler (a module
//! has been seen to need gigabytes), so a raw module is compiled by a hub's binary, and kept.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use contract::digest::Digest;
use contract::limits::ARTIFACT_BYTES_MAX;
use contract::quantity::Bytes;

use super::args::TryArgs;
use crate::instance::Artifact;
use crate::run::containers;
use crate::run::images::{Images, ImagesError};

/// Compiled trials that are kept; the oldest go first. Compiled code is ≤ 4× its module: some 100 MB.
const KEPT_MAX: usize = 16;

/// Blank lines may come before a text.
const HEAD_BYTES: u64 = 512;

enum Kind {
    /// An archive of container images, packed or not, or the directory of a layout.
    Image,
    /// ELF: what wasmtime compiled.
    Compiled,
    /// A module or component as toolchains build it, or its text as people write it.
    Wasm,
}

/// The file to run. A compiled one is taken as it is (the shim refuses what is not for this engine); it is
/// machine code, so it must be as trusted as a program.
pub fn runnable(args: &TryArgs, images: &Path) -> anyhow::Result<Artifact> {
    let path = &args.artifact;
    match kind(path)? {
        Kind::Compiled => Ok(Artifact::from(path)),
        Kind::Wasm => Ok(Artifact::from(&compiled(path, args.hub.as_deref())?)),
        Kind::Image => image(args, images),
    }
}

fn kind(path: &Path) -> anyhow::Result<Kind> {
    let named = || path.display().to_string();
    if fs::metadata(path).with_context(named)?.is_dir() {
        return Ok(Kind::Image);
    }
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(HEAD_BYTES).read_to_end(&mut head)).with_context(named)?;
    let is_tar = head.get(257..262) == Some(b"ustar".as_slice());
    match head.trim_ascii_start() {
        [] => bail!("{} is empty", named()),
        // Packed by gzip or zstd, which begins like a text in parentheses.
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Kind::Image),
        _ if is_tar => Ok(Kind::Image),
        [b'\0', b'a', b's', b'm', ..] | [b'(' | b';', ..] => Ok(Kind::Wasm),
        [0x7f, b'E', b'L', b'F', ..] => Ok(Kind::Compiled),
        _ => bail!(
            "{} is neither WebAssembly (.wasm, or .wat beginning with a parenthesis), nor code that a hub compiled, \
             nor a container image (an OCI layout, as a directory or tar, or what docker save writes)",
            named()
        ),
    }
}

/// Unpacked for this trial alone.
fn image(args: &TryArgs, state: &Path) -> anyhow::Result<Artifact> {
    let lacks = containers::lacks(args.allow_missing_seccomp);
    if !lacks.is_empty() {
        bail!("containers cannot be run here: {} (edge-agent check tells more)", lacks.join("; "));
    }
    let one_line = |e: ImagesError| anyhow::anyhow!(crate::instance::told(&e));
    let images = Images::open(state).map_err(one_line)?;
    let manifest = images.take_in(&args.artifact, args.image.as_deref()).map_err(one_line)?;
    for note in images.unpack(&manifest).map_err(one_line)? {
        eprintln!("edge-agent: {note}");
    }
    Ok(images.ready(&manifest).map_err(one_line)?.into())
}

fn compiled(path: &Path, hub: Option<&Path>) -> anyhow::Result<PathBuf> {
    let size = fs::metadata(path)?.len();
    if size > ARTIFACT_BYTES_MAX {
        bail!("{} has {}; the limit is {}", path.display(), Bytes(size), Bytes(ARTIFACT_BYTES_MAX));
    }
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let engine = wasm::native_engine();
    let cache = cache_dir()?;
    let kept = cache.join(format!("{}-{engine}.cwasm", Digest::of(&bytes).hex()));
    if !kept.exists() {
        compile(&bytes, path, &cache, &kept, hub)?;
        forget_old(&cache);
    }
    Ok(kept)
}

/// The bytes whose digest names the result are compiled, whatever becomes of the file meanwhile.
fn compile(bytes: &[u8], path: &Path, cache: &Path, kept: &Path, hub: Option<&Path>) -> anyhow::Result<()> {
    let hub = find_hub(hub).with_context(|| how_to_compile(path))?;
    let own = std::process::id();
    let (input, output) = (cache.join(format!("{own}.wasm")), cache.join(format!("{own}.out")));
    fs::write(&input, bytes).with_context(|| input.display().to_string())?;
    let result = Command::new(&hub)
        .arg("compile")
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .args(["--engine", wasm::native_engine().as_str()])
        .stdin(Stdio::null())
        .output();
    let _ = fs::remove_file(&input);
    let result = result.with_context(|| hub.display().to_string())?;
    if !result.status.success() {
        let _ = fs::remove_file(&output);
        let said = String::from_utf8_lossy(&result.stderr);
        let said = said.trim().replace(&*input.to_string_lossy(), &path.to_string_lossy());
        let frame = format!("hub: {} was not compiled: ", path.display());
        let why = said.strip_prefix(&frame).or(said.strip_prefix("hub: ")).unwrap_or(&said);
        bail!("{} cannot be compiled: {why}", path.display());
    }
    fs::rename(&output, kept).with_context(|| kept.display().to_string())
}

fn how_to_compile(path: &Path) -> String {
    format!(
        "{0} was not run. Either name the hub program:\n  edge-agent try --hub /path/to/hub {0}\nor compile it \
         where the hub is, and try what comes out:\n  hub compile {0} -o {1} --engine {2}\n  edge-agent try {1}\n\
         Why",
        path.display(),
        path.with_extension("cwasm").display(),
        wasm::native_engine()
    )
}

fn find_hub(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(hub) = named {
        return if hub.is_file() {
            Ok(hub.to_path_buf())
        } else {
            bail!("--hub {}: no such file", hub.display())
        };
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("hub")));
    let in_path = std::env::var_os("PATH");
    let in_path = in_path.iter().flat_map(std::env::split_paths).map(|dir| dir.join("hub"));
    beside.into_iter().chain(in_path).find(|hub| hub.is_file()).context(
        "it must be compiled first; boards carry no compiler, the `hub` program has one, and it is neither \
         beside edge-agent nor in PATH",
    )
}

/// What lies here is executed, so the directory must be ours alone.
pub(super) fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let dir = base.unwrap_or_else(|| PathBuf::from("/var/cache")).join("skerry-try");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| dir.display().to_string())?;
    let found = fs::symlink_metadata(&dir)?;
    let ours =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !ours {
        bail!("{} may be written by others; what is compiled there would not be trusted", dir.display());
    }
    Ok(dir)
}

fn forget_old(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    let with_age = |e: fs::DirEntry| Some((e.metadata().ok()?.modified().ok()?, e.path()));
    let mut kept: Vec<_> = entries.flatten().filter_map(with_age).collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT_MAX);
    for (_, path) in &kept[..surplus] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_is_said_in_words() {
        let tmp = tempfile::tempdir().unwrap();
        let refused = |bytes: &[u8]| {
            let path = tmp.path().join("x");
            fs::write(&path, bytes).unwrap();
            kind(&path).map(drop).unwrap_err().to_string()
        };
        assert!(refused(b"").contains("is empty"));
        for bytes in [&b"\xff\xfe\x00\x01"[..], b"#!/bin/sh", b"\0as"] {
            assert!(refused(bytes).contains("neither"));
        }
        fs::write(tmp.path().join("x.wat"), "\n (module)").unwrap();
        let no_hub = compiled(&tmp.path().join("x.wat"), Some(Path::new("/nonexistent/hub"))).unwrap_err();
        let no_hub = format!("{no_hub:#}");
        assert!(no_hub.contains("hub compile") && no_hub.contains("/nonexistent/hub"), "{no_hub}");
        assert!(kind(&tmp.path().join("none")).is_err());
        fs::write(tmp.path().join("c"), b"\x7fELF").unwrap();
        assert!(matches!(kind(&tmp.path().join("c")), Ok(Kind::Compiled)));
        assert!(matches!(kind(tmp.path()), Ok(Kind::Image)));
    }
}
