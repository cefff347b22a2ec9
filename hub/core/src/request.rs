//! What does an operator's request change? Admitted by `admit`, written in one commit, answered
//! when that is durable.

use std::collections::{BTreeMap, BTreeSet};

use contract::time::Now;
use contract::{AgentId, Attempt, Name, Version, WorkloadKey};

use crate::access::over_quota;
use crate::admit::{Admitted, Denied, admit};
use crate::api::{Answer, Apply, Op, Refusal, Request, RequestId};
use crate::core::Core;
use crate::record::WorkloadRecord;
use crate::revision;
use crate::trust::TrustKey;
use crate::world::Work;

impl Core {
    pub(crate) fn on_request(&mut self, now: Now, id: RequestId, request: Request) {
        match request {
            Request::Apply(apply) => self.on_apply(now, id, &apply),
            Request::Delete { keys, if_version } => self.on_delete(id, keys, if_version),
            Request::Scale { key, replicas, if_version } => self.on_scale(now, id, key, replicas, if_version),
            Request::Restart { key } => self.on_restart(now, id, key),
            Request::AddArtifact(new) => self.on_add_artifact(now, id, new),
            Request::DeleteData { id: wanted, if_version } => self.on_delete_data(id, &wanted, if_version),
            Request::RemoveArtifact { reference } => self.on_remove_artifact(id, &reference),
            Request::Command { agent, op, deadline_ms, ticket } => {
                self.on_command(now, id, agent, op, deadline_ms, ticket)
            }
            Request::RemoveAgent { agent } => self.on_remove_agent(id, &agent),
            Request::Trust(request) => self.on_trust(now, id, request),
            Request::ChangeAgents { agents, change } => self.on_change_agents(now, id, agents, &change),
            Request::Access(request) => self.on_access(now, id, request),
            Request::AcceptRestore { lineage } => self.on_accept_restore(id, lineage),
        }
    }

    fn on_apply(&mut self, now: Now, id: RequestId, apply: &Apply) {
        let admitted = match admit(&self.world, apply) {
            Ok(admitted) => admitted,
            Err(Denied::Refused(errors)) => return self.out.answer(id, Answer::Refused { errors }),
            Err(Denied::Conflict(errors)) => return self.out.answer(id, Answer::Conflict { errors }),
        };
        let Admitted { changes, mut warnings, records, images, data } = admitted;
        if !apply.dry_run {
            for mut image in images {
                image.pushed_wall_ms = image.pushed_wall_ms.or(now.wall_ms);
                self.put_image(image);
            }
        }
        let changes_any = !records.is_empty() || !data.is_empty();
        if !apply.dry_run && changes_any {
            self.commit();
            for (id, record) in data {
                self.write_data(now, id, record);
            }
            for (key, record) in records {
                self.write_workload(now, key, record);
            }
            self.reconcile();
            warnings.extend(self.unplaced_warnings(&changes));
            let more = self.displaced.saturating_sub(self.displaced_named.len());
            warnings.append(&mut self.displaced_named);
            warnings.extend((more > 0).then(|| format!("and {more} more make room")));
        }
        let version = self.world.meta.version;
        self.out.answer(id, Answer::Applied { version, changes, warnings });
    }

    /// Room is a fact of this moment, so it is a warning and no refusal.
    fn unplaced_warnings(&self, changes: &[crate::api::AppliedChange]) -> Vec<String> {
        let warn = |change: &crate::api::AppliedChange| {
            let work = self.world.works.get(&change.workload).filter(|_| change.is_of_work())?;
            let key = &change.workload;
            let (slots, agents) = (work.unplaced.slots.len(), work.unplaced.agents.len());
            match (slots, agents) {
                (0, 0) => None,
                (0, n) => Some(format!(
                    "{key}: {n} of the selected agents have no room or nothing to run for it; describe says which"
                )),
                (n, _) => Some(format!("{key}: no agent has room for {n} of {} replicas", work.replicas())),
            }
        };
        changes.iter().filter_map(warn).collect()
    }

    /// The one place where a workload changes.
    fn write_workload(&mut self, now: Now, key: WorkloadKey, record: Option<WorkloadRecord>) {
        self.out.workload(&key);
        self.changes.workload(&key);
        let Some(mut record) = record else { return self.drop_workload(&key) };
        record.version = self.world.meta.version;
        record.applied_wall_ms = now.wall_ms;
        let present = self.world.works.get(&key);
        if present.is_none() {
            record.created_wall_ms = now.wall_ms;
        }
        record.revisions = revision::history(present, &record);
        let mut work = Work::new(record);
        let priority = work.priority();
        let before = self.world.take_work(&key);
        // What it has may be had by others now.
        let yields = before.as_ref().is_some_and(|before| before.priority() > priority);
        if let Some(before) = before {
            (work.placed, work.unplaced, work.moving) = (before.placed, before.unplaced, before.moving);
        }
        self.world.put_work(key.clone(), work);
        self.queues.dirty.set_priority(&key, priority);
        self.queues.dirty.all(&key);
        if yields {
            self.dirty_all_starving();
        }
        self.dirty_namespace(&key.namespace);
    }

    fn drop_workload(&mut self, key: &WorkloadKey) {
        let Some(work) = self.world.works.get(key) else { return };
        let agents: Vec<AgentId> = work.placed.keys().cloned().collect();
        for id in &agents {
            self.out.placement(key, id);
            if self.world.set_placed(key, id, None) {
                self.dirty_starving(id);
            }
            self.queues.publish(id, false);
            self.changes.agent(id);
        }
        self.world.take_work(key);
        self.world.starving.remove(key);
        self.queues.dirty.forget(key);
        self.dirty_namespace(&key.namespace);
    }

    fn on_delete(&mut self, id: RequestId, keys: Vec<WorkloadKey>, if_version: Option<Version>) {
        let missing = keys.iter().filter(|key| !self.world.works.contains_key(key));
        let missing: Vec<Refusal> = missing.map(unknown).collect();
        if !missing.is_empty() {
            return self.out.answer(id, Answer::NotFound { errors: missing });
        }
        if let Some(conflict) = keys.iter().find_map(|key| self.conflict(key, if_version)) {
            return self.out.answer(id, Answer::Conflict { errors: vec![conflict] });
        }
        if !keys.is_empty() {
            self.commit();
        }
        for key in &keys {
            self.out.workload(key);
            self.changes.workload(key);
            self.drop_workload(key);
        }
        self.out.answer(id, Answer::Deleted { version: self.world.meta.version, keys });
    }

    fn on_scale(
        &mut self,
        now: Now,
        id: RequestId,
        key: WorkloadKey,
        replicas: u32,
        if_version: Option<Version>,
    ) {
        let Some(work) = self.world.works.get(&key) else {
            return self.out.answer(id, Answer::NotFound { errors: vec![unknown(&key)] });
        };
        if let Some(conflict) = self.conflict(&key, if_version) {
            return self.out.answer(id, Answer::Conflict { errors: vec![conflict] });
        }
        let mut record = (*work.record).clone();
        let refusal = if work.every_agent() {
            Some("runs on every selected agent (everyAgent: true) and has no replicas to scale".to_string())
        } else if replicas > contract::limits::REPLICAS_MAX {
            Some(format!("is {replicas}; at most {} are taken", contract::limits::REPLICAS_MAX))
        } else {
            None
        };
        if let Some(reason) = refusal {
            let errors = vec![Refusal { workload: Some(key), field: "spec.replicas".into(), reason }];
            return self.out.answer(id, Answer::Refused { errors });
        }
        if record.manifest.spec.replicas != Some(replicas) {
            record.manifest.spec.replicas = Some(replicas);
            let scaled = BTreeMap::from([(key.clone(), Some(record.clone()))]);
            let errors = over_quota(&self.world, &scaled);
            if !errors.is_empty() {
                return self.out.answer(id, Answer::Refused { errors });
            }
            self.commit();
            self.write_workload(now, key, Some(record));
        }
        self.out.answer(id, Answer::Done { version: self.world.meta.version });
    }

    fn on_restart(&mut self, now: Now, id: RequestId, key: WorkloadKey) {
        let Some(work) = self.world.works.get(&key) else {
            return self.out.answer(id, Answer::NotFound { errors: vec![unknown(&key)] });
        };
        let mut record = (*work.record).clone();
        record.restarts += 1;
        if revision::is_rejected_somewhere(&self.world, work) {
            record.attempt = Attempt(record.attempt.0.saturating_add(1));
        }
        self.commit();
        self.write_workload(now, key, Some(record));
        self.out.answer(id, Answer::Done { version: self.world.meta.version });
    }

    fn on_remove_agent(&mut self, id: RequestId, agent_id: &AgentId) {
        let refusal = |reason: String| vec![Refusal { workload: None, field: "agent".into(), reason }];
        let Some(agent) = self.world.agents.get(agent_id) else {
            let errors = refusal(format!("there is no agent '{agent_id}'"));
            return self.out.answer(id, Answer::NotFound { errors });
        };
        if agent.is_online() {
            let errors = refusal(format!("agent {agent_id} is online, and would come back: stop it first"));
            return self.out.answer(id, Answer::Refused { errors });
        }
        let due = agent.session.as_ref().and_then(|s| s.due);
        let works = agent.works.clone();
        self.timers.set(agent_id, due, None);
        self.commit();
        for key in works.clone() {
            self.world.set_placed(&key, agent_id, None);
            self.out.placement(&key, agent_id);
            self.queues.dirty.all(&key);
        }
        for key in self.world.starving.clone() {
            self.world.set_unplaced(&key, |u| {
                u.agents.remove(agent_id);
            });
        }
        self.world.remove_agent(agent_id);
        self.drains.forget(agent_id);
        let namespaces: BTreeSet<Name> = works.into_iter().map(|key| key.namespace).collect();
        namespaces.iter().for_each(|name| self.dirty_namespace(name));
        if self.world.trust.identities.contains_key(agent_id) {
            self.world.trust.drop_identity(agent_id);
            self.out.trust(TrustKey::Identity(agent_id.clone()));
        }
        self.queues.forget(agent_id);
        self.out.agent(agent_id);
        self.changes.agent(agent_id);
        self.out.after(Op::ClearAgent { agent: agent_id.clone() });
        self.out.answer(id, Answer::Done { version: self.world.meta.version });
    }

    fn conflict(&self, key: &WorkloadKey, wanted: Option<Version>) -> Option<Refusal> {
        let wanted = wanted?;
        let present = self.world.works.get(key)?.record.version;
        let reason = format!("is at version {present}; version {wanted} was expected");
        let refusal = Refusal { workload: Some(key.clone()), field: "version".into(), reason };
        (present != wanted).then_some(refusal)
    }
}

fn unknown(key: &WorkloadKey) -> Refusal {
    Refusal {
        workload: Some(key.clone()),
        field: String::new(),
        reason: format!("there is no workload {key}"),
    }
}
