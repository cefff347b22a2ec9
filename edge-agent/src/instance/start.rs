//! Start: from an assignment to a guest that runs, each step named on disk before the next.

use contract::run::Assignment;
use contract::{InstanceId, RunId};
use tokio::time::timeout;

use super::container::{self, Artifact};
use super::data::Loaded;
use super::exit::conclude;
use super::failpoint::reach;
use super::mounts::{self, MountError};
use super::place::cgroup_name;
use super::record::{PROTO, RunDir, Spec, StatusLine, Streams};
use super::runtime::{Runtime, StartError, Started};
use super::spawn::spawn;
use crate::cgroup::CgroupError;
use crate::logs;

impl Runtime {
    /// `artifact` must be verified, and stay as it is while the run lives. When this fails, nothing of the
    /// run is left but its log; when it succeeds, its `Exited` will come, and not before this returned.
    pub async fn start(
        &self,
        instance: &InstanceId,
        run: RunId,
        assignment: &Assignment,
        artifact: impl Into<Artifact>,
    ) -> Result<Started, StartError> {
        self.start_with(instance, run, assignment, artifact, Loaded::new()).await
    }

    /// The same, with the contents of its Configs and Secrets.
    pub async fn start_with(
        &self,
        instance: &InstanceId,
        run: RunId,
        assignment: &Assignment,
        artifact: impl Into<Artifact>,
        loaded: Loaded,
    ) -> Result<Started, StartError> {
        let artifact = artifact.into();
        let deadline = self.0.settings.start_deadline;
        let begun = timeout(deadline, self.begin(instance, run, assignment, &artifact, loaded)).await;
        let result = begun.unwrap_or(Err(StartError::Deadline(deadline)));
        if result.is_err()
            && let Err(e) = self.remove(instance, run).await
        {
            eprintln!("edge-agent: {instance} {run}: after a failed start: {}", super::told(&e));
        }
        result
    }

    async fn begin(
        &self,
        instance: &InstanceId,
        run: RunId,
        assignment: &Assignment,
        artifact: &Artifact,
        loaded: Loaded,
    ) -> Result<Started, StartError> {
        artifact.check(&assignment.run)?;
        if let Some(other) = self.other_live_run(instance) {
            return Err(StartError::Fault(format!("run {other} of {instance} is still alive")));
        }
        let dir = self.make_directory(instance, run)?;
        let spec = self.write_spec(&dir, instance, run, assignment, artifact)?;
        self.make_bounds(&dir, &spec, loaded).await?;
        self.make_log_room(&spec);
        let settings = &self.0.settings;
        let mut shim = spawn(&settings.shim_exe, &dir, settings.inherit_streams)
            .map_err(|e| StartError::Fault(format!("spawn {}: {e}", settings.shim_exe.display())))?;
        reach("after-spawn");
        match shim.status().await.map_err(|e| StartError::Fault(format!("status pipe: {e}")))? {
            Some(StatusLine::Started) => {
                let pid = shim.pid;
                self.watch((instance.clone(), run), pid, shim.keep());
                Ok(Started { pid })
            }
            Some(StatusLine::Failed { message, again: true }) => Err(StartError::Fault(message)),
            Some(StatusLine::Failed { message, again: false }) => Err(StartError::Refused(message)),
            None => {
                let handle = shim.handle();
                handle.ended().await;
                Err(StartError::Fault(conclude(&dir, handle.ending()).to_string()))
            }
        }
    }

    fn make_directory(&self, instance: &InstanceId, run: RunId) -> Result<RunDir, StartError> {
        let places = &self.0.settings.places;
        let dir = places.run(instance, run);
        std::fs::create_dir_all(places.instance(instance))
            .and_then(|()| std::fs::create_dir(dir.path()))
            .map_err(|e| StartError::Fault(format!("{}: {e}", dir.path().display())))?;
        reach("after-directory");
        Ok(dir)
    }

    fn write_spec(
        &self,
        dir: &RunDir,
        instance: &InstanceId,
        run: RunId,
        assignment: &Assignment,
        artifact: &Artifact,
    ) -> Result<Spec, StartError> {
        let settings = &self.0.settings;
        let streams = if settings.inherit_streams {
            Streams::Inherit
        } else {
            Streams::Log { directory: settings.places.logs(instance), bytes_max: settings.log_bytes_max }
        };
        let name = cgroup_name(instance, run);
        let (path, container) = match artifact {
            Artifact::Code(path) => (path, None),
            Artifact::Image(image) => {
                (&image.manifest, Some(container::plan(settings, &name, &assignment.run, image)?))
            }
        };
        let cgroups = &settings.cgroups;
        let spec = Spec {
            proto: PROTO,
            instance: instance.clone(),
            run,
            assignment: assignment.clone(),
            artifact: std::path::absolute(path).map_err(|e| StartError::Fault(e.to_string()))?,
            cgroup: if container.is_some() { cgroups.split_leaf(&name) } else { cgroups.leaf(&name) },
            directories: mounts::plan(dir, &assignment.run)?,
            streams,
            container,
        };
        dir.write_spec(&spec).map_err(|e| StartError::Fault(super::told(&e)))?;
        reach("after-spec");
        Ok(spec)
    }

    async fn make_bounds(&self, dir: &RunDir, spec: &Spec, loaded: Loaded) -> Result<(), StartError> {
        let run = &spec.assignment.run;
        spec.cgroup.create(&run.limits)?;
        if spec.container.is_some() {
            let writable = self.0.settings.places.writable();
            std::fs::create_dir_all(&writable)
                .map_err(|e| StartError::Fault(format!("{}: {e}", writable.display())))?;
        }
        if mounts::needs_work(run) {
            let volumes = self.0.settings.places.volumes(&spec.instance);
            let (dir, wanted) = (dir.clone(), run.clone());
            // Disks block, and a current-thread loop has others to serve.
            tokio::task::spawn_blocking(move || mounts::make(&dir, &volumes, &wanted, &loaded))
                .await
                .map_err(|e| StartError::Fault(format!("mounting: {e}")))??;
        }
        reach("after-cgroup");
        Ok(())
    }

    /// A full disk must not keep work from running: it runs unheard.
    fn make_log_room(&self, spec: &Spec) {
        if let Streams::Log { directory, .. } = &spec.streams
            && let Err(e) = logs::make_room(directory, spec.run)
        {
            eprintln!("edge-agent: {}: no room for its log: {e}", spec.instance);
        }
    }
}

impl From<MountError> for StartError {
    fn from(e: MountError) -> StartError {
        match e {
            MountError::Refused(why) => StartError::Refused(why),
            fault => StartError::Fault(super::told(&fault)),
        }
    }
}

impl From<CgroupError> for StartError {
    fn from(e: CgroupError) -> StartError {
        match e {
            CgroupError::Missing(_) | CgroupError::BadParent(_) => StartError::Refused(e.to_string()),
            CgroupError::Io { .. } => StartError::Fault(super::told(&e)),
        }
    }
}
