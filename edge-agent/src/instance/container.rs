//! What a run is made of; and for a container, what its shim is told besides the assignment.

use std::path::{Path, PathBuf};

use contract::run::RunSpec;
use contract::spec::{NetworkMode, Runtime};
use oci::image::Defaults;
use oci::run::Writable;

use super::device;
use super::record::ContainerSpec;
use super::runtime::{Settings, StartError};

/// Verified, on this board, and as it is for as long as the run lives.
#[derive(Debug, Clone, PartialEq)]
pub enum Artifact {
    /// Compiled for this engine.
    Code(PathBuf),
    Image(Box<Image>),
}

/// Ready to be mounted.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    pub manifest: PathBuf,
    pub defaults: Defaults,
    /// Unpacked, the lowest first.
    pub layers: Vec<PathBuf>,
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Artifact {
    fn from(code: &P) -> Artifact {
        Artifact::Code(code.as_ref().to_path_buf())
    }
}

impl From<Image> for Artifact {
    fn from(image: Image) -> Artifact {
        Artifact::Image(Box::new(image))
    }
}

impl Artifact {
    pub(super) fn check(&self, run: &RunSpec) -> Result<(), StartError> {
        match (self, run.runtime) {
            (Artifact::Code(_), Runtime::Wasm) | (Artifact::Image(_), Runtime::Oci) => Ok(()),
            (_, runtime) => Err(StartError::Refused(format!("its artefact is none for runtime {runtime:?}"))),
        }
    }
}

pub(super) fn plan(
    settings: &Settings,
    name: &str,
    run: &RunSpec,
    image: &Image,
) -> Result<ContainerSpec, StartError> {
    if run.network.mode == NetworkMode::Private {
        return Err(StartError::Refused("network: private comes with a later version; none or host".into()));
    }
    let read_only = run.container.as_ref().is_some_and(|c| c.read_only_root);
    Ok(ContainerSpec {
        image: image.defaults.clone(),
        layers: image.layers.clone(),
        cgroups_path: settings.cgroups.payload_path(name),
        seccomp: settings.seccomp,
        writable: writable(settings.places.writable(), run.limits.storage_bytes, read_only),
        neighbours: settings.places.instances(),
        devices: device::of(run),
    })
}

/// What nobody writes to need not be on a disk. A kernel without loop devices has no other place either.
fn writable(directory: PathBuf, size_bytes: u64, read_only: bool) -> Writable {
    const MOUNT_POINTS_BYTES: u64 = 1 << 20;
    match read_only {
        true => Writable::Memory { size_bytes: MOUNT_POINTS_BYTES },
        false if Path::new("/dev/loop-control").exists() => Writable::Disk { directory, size_bytes },
        false => Writable::Memory { size_bytes },
    }
}
