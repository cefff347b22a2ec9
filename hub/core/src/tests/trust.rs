//! Who may join, how often, as whom; and what approving, revoking and replacing do.

use contract::Digest;
use contract::identity::{Machine, PublicKey, Standing};
use contract::message::FromAgent;

use super::bed::{Bed, id, labels};
use super::board::Board;
use crate::api::{Answer, Request};
use crate::trust::{Chosen, ExpectedRecord, JoinAsk, NewToken, TrustRequest};

const SECRET: &[u8] = b"secret";

fn ask(bed: &mut Bed, request: TrustRequest) -> Answer {
    bed.ask(Request::Trust(request))
}

fn token(bed: &mut Bed, uses: Option<u32>, approve: bool) {
    let secret = Digest::of(SECRET);
    let new = NewToken { secret, ttl_ms: 60_000, uses, labels: labels(&[("line", "a")]), approve };
    assert!(matches!(ask(bed, TrustRequest::MakeToken(new)), Answer::Done { .. }));
}

fn join_with(bed: &mut Bed, secret: &[u8], key: &str, name: &str, machine: Machine) -> Answer {
    let ask = JoinAsk {
        secret: Digest::of(secret),
        public: PublicKey::from_der(key.as_bytes().to_vec()),
        id: id(name),
        machine,
        source: "10.0.0.1".into(),
    };
    bed.ask(Request::Trust(TrustRequest::Join(Box::new(ask))))
}

fn join(bed: &mut Bed, key: &str, name: &str) -> Answer {
    join_with(bed, SECRET, key, name, Machine::new())
}

fn joined(name: &str, standing: Standing) -> Answer {
    Answer::Joined { agent: id(name), standing }
}

fn why(answer: Answer) -> String {
    match answer {
        Answer::Refused { errors } | Answer::NotFound { errors } => errors[0].reason.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_lets_in_as_often_as_it_says_and_until_it_ends() {
    let mut bed = Bed::new();
    token(&mut bed, Some(2), true);
    assert_eq!(join(&mut bed, "k1", "b1"), joined("b1", Standing::Good));
    assert_eq!(join(&mut bed, "k2", "b2"), joined("b2", Standing::Good));
    assert!(why(join(&mut bed, "k3", "b3")).contains("used up"));
    // The same key again is the same join, also of a token that is used up, ended or revoked.
    assert_eq!(join(&mut bed, "k1", "another"), joined("b1", Standing::Good));
    bed.pass(60_000);
    assert!(why(join(&mut bed, "k3", "b3")).contains("expired"));
    bed.restart();
    assert_eq!(join(&mut bed, "k1", "b1"), joined("b1", Standing::Good));
    let name = Digest::of(SECRET).hex()[..10].to_string();
    assert!(why(ask(&mut bed, TrustRequest::RevokeToken(name[..3].into()))).contains("not enough"));
    assert!(matches!(ask(&mut bed, TrustRequest::RevokeToken(name)), Answer::Done { .. }));
    assert_eq!(join(&mut bed, "k1", "b1"), joined("b1", Standing::Good));
    assert!(why(join(&mut bed, "k3", "b3")).contains("not one of this hub's"));
}

#[test]
fn a_name_is_one_boards_until_it_is_sent_away() {
    let mut bed = Bed::new();
    token(&mut bed, None, true);
    join(&mut bed, "k1", "b1");
    assert!(why(join(&mut bed, "k2", "b1")).contains("another key"));
    assert!(matches!(ask(&mut bed, TrustRequest::Revoke(vec![id("b1")])), Answer::Agents { .. }));
    assert!(why(join(&mut bed, "k1", "b1")).contains("revoked"));
    assert_eq!(join(&mut bed, "k2", "b1"), joined("b1", Standing::Good));
    let known =
        |bed: &Bed, key: &str| bed.core.trust().known(&id("b1"), &Digest::of(key.as_bytes())).standing;
    assert_eq!((known(&bed, "k2"), known(&bed, "k1")), (Standing::Good, Standing::Unknown));
    // The old key has lost its name and may come back under another.
    assert_eq!(join(&mut bed, "k1", "b9"), joined("b9", Standing::Good));
}

#[test]
fn who_waits_is_approved_by_name_or_by_label() {
    let mut bed = Bed::new();
    token(&mut bed, None, false);
    for n in 1..4 {
        assert_eq!(
            join(&mut bed, &format!("k{n}"), &format!("b{n}")),
            joined(&format!("b{n}"), Standing::Waits)
        );
    }
    let issued = |key: &str| TrustRequest::Issued {
        agent: id("b1"),
        public: PublicKey::from_der(key.as_bytes().to_vec()),
        issued_ms: 1,
        ends_ms: 2,
    };
    assert!(why(ask(&mut bed, issued("k1"))).contains("not to have"));
    ask(&mut bed, TrustRequest::Approve(Chosen::Named(vec![id("b1")])));
    assert!(why(ask(&mut bed, issued("k2"))).contains("not to have"));
    assert!(matches!(ask(&mut bed, issued("k1")), Answer::Done { .. }));
    let by_label = |query: &str| TrustRequest::Approve(Chosen::Labelled(query.parse().unwrap()));
    let Answer::Agents { agents, .. } = ask(&mut bed, by_label("line=b")) else { panic!() };
    assert_eq!(agents, []);
    let Answer::Agents { agents, .. } = ask(&mut bed, by_label("line=a")) else { panic!() };
    assert_eq!(agents, [id("b2"), id("b3")]);
    assert!(why(ask(&mut bed, TrustRequest::Approve(Chosen::Named(vec![id("b7")])))).contains("no board"));
}

#[test]
fn guessing_is_slow_and_hurts_nobody_elses_address() {
    let mut bed = Bed::new();
    token(&mut bed, None, true);
    for n in 0..10 {
        let answer = join_with(&mut bed, format!("guess {n}").as_bytes(), "k", "b", Machine::new());
        assert!(why(answer).contains("not one of"));
    }
    assert!(why(join(&mut bed, "k1", "b1")).contains("too many wrong tokens"));
    bed.pass(59_000);
    assert!(why(join(&mut bed, "k1", "b1")).contains("too many"));
    bed.pass(2_000);
    token(&mut bed, None, true);
    assert_eq!(join(&mut bed, "k1", "b1"), joined("b1", Standing::Good));
}

#[test]
fn an_expected_board_gets_its_name_labels_and_approval() {
    let mut bed = Bed::new();
    token(&mut bed, None, false);
    let expected = ExpectedRecord {
        machine: labels(&[("serial", "10000000ABCDEF01")]),
        labels: labels(&[("site", "north")]),
        approve: true,
    };
    ask(&mut bed, TrustRequest::Import(vec![(id("press-7"), expected)]));
    bed.restart();
    let machine = labels(&[("serial", "10000000abcdef01"), ("mac", "02:00:00:00:00:01")]);
    assert_eq!(join_with(&mut bed, SECRET, "k1", "raspberrypi", machine), joined("press-7", Standing::Good));
    let identity = &bed.core.trust().identities[&id("press-7")];
    assert_eq!(identity.labels, labels(&[("line", "a"), ("site", "north")]));
    assert_eq!(join(&mut bed, "k2", "raspberrypi"), joined("raspberrypi", Standing::Waits));
}

#[test]
fn the_hubs_labels_go_over_the_boards_and_a_replacement_takes_them() {
    let mut bed = Bed::new();
    token(&mut bed, None, true);
    join(&mut bed, "k1", "old");
    join(&mut bed, "k2", "new");
    let mut board = Board::new("old");
    board.presence.labels = labels(&[("line", "claimed"), ("rack", "3")]);
    board.connect(&mut bed);
    let seen = bed.core.agent(bed.at(), &id("old")).unwrap();
    assert_eq!(seen.labels, labels(&[("line", "a"), ("rack", "3")]));
    ask(&mut bed, TrustRequest::Replace { old: id("old"), new: id("new") });
    assert_eq!(bed.core.trust().identities[&id("new")].labels, seen.labels);
    let old = bed.core.trust().known(&id("old"), &Digest::of(b"k1"));
    assert_eq!((old.standing, old.reason.as_str()), (Standing::Revoked, "replaced by new"));
    // And nothing that it says is heard any more, whoever carries it.
    let before = bed.core.status().rejected;
    let presence = board.presence.clone();
    bed.message(&id("old"), FromAgent::Presence(presence));
    assert_eq!(bed.core.status().rejected, before + 1);
}
