//! `hub push`: a module, an image archive or the directory of an OCI layout, streamed to the hub. A
//! directory becomes a tar on the way; nothing of it is copied first.

use std::fs::File;
use std::io::{PipeWriter, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::client::{Client, query};
use super::exit::{Done, Failure};
use super::style::size;
use crate::api::push::Pushed;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hub push press.wasm --tag press:1.4\n  hub push press.wasm                     tagged press:latest\n  docker save web:1 | gzip > web.tar.gz && hub push web.tar.gz --tag web:1\n  skopeo copy --all docker://… oci:web && hub push web --tag web:1    every platform of it"
)]
pub struct PushArgs {
    /// A WebAssembly module (WASI preview 1) or component (preview 2); or a container image: an OCI layout
    /// (directory or tar) or what 'docker save' writes
    file: PathBuf,
    /// name:tag; the file's name and 'latest' when left out
    #[arg(short, long)]
    tag: Option<String>,
    /// Which image of an archive that holds several, by the name it has there
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
}

pub fn push(client: &Client, args: &PushArgs) -> Done {
    let name = args.file.display();
    let wrong = |why: std::io::Error| Failure::usage(format!("{name}: {why}"));
    let tag = args.tag.clone().map_or_else(|| tag_of(&args.file), Ok)?;
    let parts = [("tag", Some(tag.clone())), ("image", args.image.clone())];
    let path = format!("/v1/artifacts{}", query(&parts));
    let pushed: Done<Pushed> = if args.file.is_dir() {
        let layout = Layout::find(&args.file)?;
        let (reader, writer) = std::io::pipe()?;
        let bytes = layout.tar_bytes();
        let writing = std::thread::spawn(move || layout.write(writer));
        let pushed = client.upload(&path, reader, bytes);
        match writing.join() {
            // The hub's word goes first: it may have hung up on purpose.
            Ok(Err(why)) if pushed.is_ok() || why.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(wrong(why));
            }
            Ok(_) => pushed,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    } else {
        let file = File::open(&args.file).map_err(wrong)?;
        let data = file.metadata().map_err(wrong)?;
        if !data.is_file() {
            let what = "is neither a file nor the directory of an OCI layout";
            return Err(Failure::usage(format!("{name} {what}: name a .wasm or an image archive")));
        }
        let bytes = data.len();
        client.upload(&path, file, bytes)
    };
    let pushed = pushed.map_err(|failure| Failure::new(failure.code, format!("{name}: {}", failure.text)))?;
    let platforms: String = pushed.platforms.iter().map(|platform| format!(", {platform}")).collect();
    say!("{tag} is {} ({}{platforms})", pushed.digest, size(pushed.size_bytes));
    for note in &pushed.notes {
        say!("note: {note}");
    }
    Ok(())
}

/// `press_guard.tar.gz` is `press-guard:latest`.
fn tag_of(file: &Path) -> Done<String> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let endings = [".gz", ".tgz", ".zst", ".tar", ".wasm", ".wat"];
    let stem = endings.iter().fold(name.as_str(), |name, ending| name.strip_suffix(ending).unwrap_or(name));
    if stem.is_empty() {
        return Err(Failure::usage(format!("{} gives no name: write --tag name:tag", file.display())));
    }
    Ok(format!("{}:latest", stem.replace('_', "-")))
}

const BLOCK: u64 = 512;

/// The files of an OCI layout, by their names within it.
struct Layout {
    root: PathBuf,
    files: Vec<(String, u64)>,
}

impl Layout {
    fn find(root: &Path) -> Done<Layout> {
        let shown = root.display();
        let mut files = Vec::new();
        for name in ["oci-layout", "index.json"] {
            let data = std::fs::metadata(root.join(name)).map_err(|why| {
                Failure::usage(format!("{shown} is no OCI layout, which has a file '{name}': {why}"))
            })?;
            files.push((name.to_string(), data.len()));
        }
        let blobs = root.join("blobs/sha256");
        let fault = |why| Failure::usage(format!("{}: {why}", blobs.display()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&blobs).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let data = std::fs::metadata(entry.path()).map_err(fault)?;
            if let (true, Ok(name)) = (data.is_file(), entry.file_name().into_string()) {
                found.push((format!("blobs/sha256/{name}"), data.len()));
            }
        }
        found.sort();
        files.extend(found);
        Ok(Layout { root: root.to_path_buf(), files })
    }

    /// A header and whole blocks for each file, and two empty blocks at the end.
    fn tar_bytes(&self) -> u64 {
        let files = self.files.iter().map(|(_, size)| BLOCK + size.next_multiple_of(BLOCK));
        files.sum::<u64>() + 2 * BLOCK
    }

    fn write(self, to: PipeWriter) -> std::io::Result<()> {
        let mut tar = tar::Builder::new(to);
        for (name, size) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_path(name)?;
            header.set_size(*size);
            header.set_mode(0o644);
            header.set_cksum();
            let path = self.root.join(name);
            let changed = || std::io::Error::other(format!("{} changed while it was sent", path.display()));
            let file = File::open(&path)?;
            if file.metadata()?.len() != *size {
                return Err(changed());
            }
            tar.append(&header, file.take(*size))?;
        }
        tar.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name() {
        for (file, tag) in [
            ("Press_Guard.wasm", "press-guard:latest"),
            ("images/web.tar.gz", "web:latest"),
            ("web", "web:latest"),
        ] {
            assert_eq!(tag_of(Path::new(file)).unwrap(), tag);
        }
        assert!(tag_of(Path::new("..")).is_err() && tag_of(Path::new(".tar")).is_err());
    }

    #[test]
    fn a_layout_is_as_long_as_it_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Layout::find(dir.path()).err().unwrap().text.contains("'oci-layout'"));
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        for (name, size) in [("oci-layout", 0), ("index.json", 511), ("blobs/sha256/aa", 512)] {
            std::fs::write(dir.path().join(name), vec![b'x'; size]).unwrap();
        }
        let layout = Layout::find(dir.path()).unwrap();
        let bytes = layout.tar_bytes();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writing = std::thread::spawn(move || layout.write(writer));
        let mut tar = Vec::new();
        reader.read_to_end(&mut tar).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!((tar.len() as u64, bytes), (7 * BLOCK, 7 * BLOCK));
    }
}
