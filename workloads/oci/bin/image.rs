//! A development tool: `oci-image list|import|unpack`, for the tests that kill it and for measuring.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use skerry_oci::archive::Archive;
use skerry_oci::image::{Image, Platform, resolve};
use skerry_oci::layer::{Layers, Limits};
use skerry_oci::store::Store;

const USAGE: &str = "usage: oci-image list ARCHIVE
       oci-image import ARCHIVE STORE [NAME]     brings an image in, prints its digest
       oci-image unpack STORE LAYERS DIGEST      prints its directories, the lowest first";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["list", archive] => list(archive),
        ["import", archive, store] => import(archive, store, None),
        ["import", archive, store, name] => import(archive, store, Some(name)),
        ["unpack", store, layers, digest] => unpack(store, layers, digest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}", chain(&*e));
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn list(archive: &str) -> Done {
    for image in Archive::open(Path::new(archive))?.images() {
        println!("{} {}", image.digest, image.names.join(" "));
    }
    Ok(())
}

fn import(archive: &str, store: &str, name: Option<&str>) -> Done {
    let archive = Archive::open(Path::new(archive))?;
    let image = archive.choose(name)?;
    archive.import(&image.digest, &Store::open(store)?, u64::MAX)?;
    println!("{}", image.digest);
    Ok(())
}

fn unpack(store: &str, layers: &str, digest: &str) -> Done {
    let (store, platform, start) = (Store::open(store)?, Platform::native(), Instant::now());
    let image = Image::load(&store, &resolve(&store, &digest.parse()?, &platform)?, &platform)?;
    let rootfs = Layers::open(layers)?.unpack(&store, &image, &Limits::DEFAULT)?;
    rootfs.layers.iter().for_each(|path| println!("{}", path.display()));
    rootfs.notes.iter().for_each(|note| eprintln!("{note}"));
    eprintln!("{} ms", start.elapsed().as_millis());
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
