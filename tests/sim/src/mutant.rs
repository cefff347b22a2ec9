//! Which bugs can be planted? None is in the cores: the shells of this simulator, which stand between
//! a core and its world, tamper with what goes in and what comes out.

macro_rules! mutants {
    ($($name:ident = $text:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant { $($name,)* }

        impl Mutant {
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name,)*];

            pub fn name(self) -> &'static str {
                match self { $(Mutant::$name => $text,)* }
            }
        }
    };
}

mutants! {
    PublishBeforePersist = "publish-before-persist",
    TrimAtPuback = "trim-at-puback",
    OlderGenerationTaken = "older-generation-taken",
    StraysKilledWithoutDesired = "strays-killed-without-desired",
    WillWithoutEpoch = "will-without-epoch",
    StaleNonceIsCurrent = "stale-nonce-is-current",
    BootsNotPersisted = "boots-not-persisted",
    ActsBeforeDurable = "acts-before-durable",
    RestartOnReconnect = "restart-on-reconnect",
    StopLost = "stop-lost",
    RemoveDropped = "remove-dropped",
    AnswerBeforePersist = "answer-before-persist",
    PublishesInConflict = "publishes-in-conflict",
    BoardsMerged = "boards-merged",
    DigestIgnored = "digest-ignored",
    GapIgnored = "gap-ignored",
    GoodOverwritten = "good-overwritten",
    GoodsArtifactDeleted = "goods-artifact-deleted",
    OutageStopsWork = "outage-stops-work",
    EventsTakenTwice = "events-taken-twice",
    LivenessFailuresLost = "liveness-failures-lost",
    ReadinessToldAsLiveness = "readiness-told-as-liveness",
    StartupToldWell = "startup-told-well",
    TaintSendsAway = "taint-sends-away",
    BoardsLookLarger = "boards-look-larger",
}

impl std::str::FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Mutant, String> {
        let found = Mutant::ALL.iter().find(|m| m.name() == text).copied();
        found.ok_or_else(|| format!("no mutant is called '{text}'"))
    }
}
