//! Words that people bring from other tools, and what they are called here.

/// (their word, ours or when it comes)
const VERBS: [(&str, &str); 47] = [
    ("create", "hub apply -f FILE"),
    ("run", "hub apply -f FILE (and 'edge-agent try x.wasm' to run one artefact now)"),
    ("start", "hub apply -f FILE"),
    ("stop", "hub delete workload NAME, or hub scale NAME --replicas 0"),
    ("rm", "hub delete workload NAME"),
    ("remove", "hub delete workload NAME"),
    ("kill", "hub restart NAME, or hub delete workload NAME"),
    ("ps", "hub get instances"),
    ("ls", "hub get workloads"),
    ("list", "hub get workloads"),
    ("pods", "hub get instances"),
    ("nodes", "hub agents"),
    ("node", "hub agents"),
    ("agent", "hub agents"),
    ("alloc", "hub get instances"),
    ("inspect", "hub describe workload NAME"),
    ("show", "hub describe workload NAME"),
    ("plan", "hub diff -f FILE (plans with batches and downloads come with a later version)"),
    ("validate", "hub apply -f FILE --dry-run"),
    ("edit", "hub get workload NAME -o yaml > FILE, edit, hub apply -f FILE"),
    ("patch", "hub get workload NAME -o yaml > FILE, edit, hub apply -f FILE"),
    ("set", "hub get workload NAME -o yaml > FILE, edit, hub apply -f FILE"),
    ("replace", "hub apply -f FILE"),
    ("update", "hub apply -f FILE"),
    ("job", "hub apply -f FILE with restartPolicy: Never or OnFailure"),
    ("stack", "hub apply -f FOLDER"),
    ("service", "hub apply -f FILE; services come with a later version"),
    ("deploy", "hub apply -f FILE"),
    ("load", "hub push FILE --tag NAME:TAG"),
    ("image", "hub images"),
    ("pull", "hub apply -f FILE (image: host/repo:tag is fetched by the hub)"),
    ("monitor", "hub events -w"),
    ("explain-plan", "hub diff -f FILE"),
    ("config", "hub context"),
    ("api-resources", "hub explain"),
    ("cluster-info", "hub status"),
    ("rollout", "'hub restart' and 'hub wait' exist; rollouts come with a later version"),
    ("top", "comes with a later version; 'hub describe agent NAME' shows what is allocated"),
    ("ssh", "hub exec -it NAME -- sh"),
    ("attach", "hub logs NAME -f, or hub exec -it NAME -- sh"),
    ("copy", "hub cp NAME:/path ./path, or hub cp ./path NAME:/path"),
    ("port-forward", "comes with a later version"),
    ("label", "hub agents label NAME k=v (and 'edge-agent run --label k=v' for what the board itself says)"),
    ("taint", "hub agents taint NAME key=value:NoSchedule"),
    ("uncordon", "hub agents uncordon NAME"),
    ("cordon", "hub agents cordon NAME"),
    ("drain", "hub agents drain NAME"),
];

/// What to say to somebody who wrote `verb`.
pub fn ours(verb: &str) -> Option<String> {
    let (_, ours) = VERBS.iter().find(|(theirs, _)| *theirs == verb)?;
    Some(format!("there is no 'hub {verb}': {ours}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn no_word_is_both_theirs_and_ours() {
        let command = crate::cli::Cli::command();
        for (verb, _) in VERBS {
            assert!(command.find_subcommand(verb).is_none(), "{verb} exists");
        }
        assert!(ours("apply").is_none() && ours("rollout").is_some());
    }
}
