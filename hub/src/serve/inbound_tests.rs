//! What of a board's words reaches the core: each kind of message × what a liar can do to its bytes.

use bytes::Bytes;
use contract::identity::{PublicKey, Standing};
use contract::message::{Events, Observed, ObservedBody, Presence, Reply, ReplyBody};
use contract::signature::{BoardKey, Sign};
use contract::{AgentId, BoardId, Digest, Epoch, Nonce};
use hub_core::trust::{IdentityRecord, Trust, TrustFacts, TrustKey, TrustRecord};
use rcgen::PublicKeyData as _;

use super::*;

struct Key {
    signer: BoardKey,
    public: PublicKey,
}

fn key() -> Key {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let signer = BoardKey::read(&pair.serialize_der()).unwrap();
    Key { signer, public: PublicKey::from_der(pair.subject_public_key_info()) }
}

fn joined(agents: &[(&str, &Key)]) -> Trust {
    let record = |key: &Key| IdentityRecord {
        key: key.public.digest(),
        public: Some(key.public.clone()),
        standing: Standing::Good,
        reason: String::new(),
        labels: Default::default(),
        machine: Default::default(),
        token: Digest::of(b"token"),
        source: String::new(),
        joined_wall_ms: 0,
        issued_wall_ms: None,
        ends_wall_ms: None,
    };
    let facts = agents.iter().map(|(id, key)| {
        (TrustKey::Identity(id.parse().unwrap()), TrustRecord::Identity(Box::new(record(key))))
    });
    Trust::load(facts.collect::<TrustFacts>())
}

const EPOCH: Epoch = Epoch { boots: 1, session: 1 };

/// One of each kind, sealed with this key or none.
fn messages(key: Option<&dyn Sign>) -> Vec<(Kind, Vec<u8>)> {
    let (board, nonce) = (BoardId([1; 16]), Nonce([2; 16]));
    let presence = Presence {
        board,
        epoch: EPOCH,
        online: true,
        contract_version: 1,
        agent_version: "0.1.0".into(),
        features: Default::default(),
        engines: Vec::new(),
        arch: "x86_64".into(),
        labels: Default::default(),
        capacity: Default::default(),
    };
    let will = Presence { online: false, ..presence.clone() };
    let body = ObservedBody::Heartbeat { state: Digest::of(b""), spooled: 0 };
    let (applied, refused) = (None, None);
    let report =
        Observed { board, epoch: EPOCH, seq: 1, nonce: Some(nonce), now_ms: 1, applied, refused, body };
    let events = Events { board, epoch: EPOCH, first_seq: 1, now_ms: 1, events: Vec::new() };
    let reply = Reply { id: "c1".parse().unwrap(), nonce, seq: 0, body: ReplyBody::Accepted };
    vec![
        (Kind::Presence, codec::seal(Envelope::Presence, &presence, key).unwrap()),
        (Kind::Presence, codec::seal(Envelope::Presence, &will, key).unwrap()),
        (Kind::Observed, codec::seal(Envelope::Observed, &report, key).unwrap()),
        (Kind::Events, codec::seal(Envelope::Events, &events, key).unwrap()),
        (Kind::Reply(reply.id.clone()), codec::seal(Envelope::Reply, &reply, key).unwrap()),
    ]
}

fn hear(
    trust: &Trust,
    joined_only: bool,
    agent: &str,
    kind: &Kind,
    bytes: &[u8],
) -> Result<FromAgent, (Why, String)> {
    let (agent, payload): (AgentId, _) = (agent.parse().unwrap(), Bytes::copy_from_slice(bytes));
    let message =
        Inbound { agent, kind: kind.clone(), payload, content_type: String::new(), retained: false };
    match (Ears { joined_only }).event(trust, BusEvent::Message(message)) {
        Some(Event::Agent { message, .. }) => Ok(message),
        Some(Event::Rejected { agent: Some(_), why, reason }) => Err((why, reason)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_a_boards_own_key_speaks_for_it() {
    let (mine, others) = (key(), key());
    let trust = joined(&[("a", &mine), ("b", &others)]);
    let why = |agent: &str, kind: &Kind, bytes: &[u8]| hear(&trust, true, agent, kind, bytes).unwrap_err().0;
    let unsigned = messages(None);
    let forged = messages(Some(&others.signer));
    for (n, (kind, bytes)) in messages(Some(&mine.signer)).iter().enumerate() {
        assert!(hear(&trust, true, "a", kind, bytes).is_ok(), "{kind}");
        assert_eq!(why("a", kind, &unsigned[n].1), Why::Unsigned, "{kind}");
        assert_eq!(why("a", kind, &forged[n].1), Why::Forged, "{kind}: by another board of this fleet");
        assert_eq!(why("b", kind, bytes), Why::Forged, "{kind}: said again in another board's name");
        assert_eq!(why("a", kind, &bytes[..bytes.len() / 2]), Why::Damaged, "{kind}: truncated");
        // One digit of what it says, under the signature of what it said.
        let text = String::from_utf8(bytes.clone()).unwrap();
        let changed = text.replacen("0101", "0111", 1).replacen("0202", "0212", 1);
        assert!(changed != text);
        assert_eq!(why("a", kind, changed.as_bytes()), Why::Forged, "{kind}: changed");
        // Signed by the board, and said elsewhere.
        let elsewhere = if *kind == Kind::Observed { Kind::Events } else { Kind::Observed };
        assert_eq!(why("a", &elsewhere, bytes), Why::Misplaced, "{kind}");
    }
    // The hub's own kind of key is no board's.
    let hub = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    for (kind, bytes) in messages(Some(&hub)) {
        assert_eq!(why("a", &kind, &bytes), Why::Forged);
    }
}

#[test]
fn who_has_not_joined_is_heard_only_where_the_broker_answers_for_it() {
    let trust = joined(&[]);
    for (kind, bytes) in messages(None) {
        assert!(hear(&trust, false, "a", &kind, &bytes).is_ok());
        let (why, reason) = hear(&trust, true, "a", &kind, &bytes).unwrap_err();
        assert!(why == Why::NotJoined && reason.contains("edge-agent join"), "{reason}");
    }
}

#[test]
fn a_record_without_a_key_is_named() {
    let mine = key();
    let mut trust = joined(&[("a", &mine)]);
    trust.identities.get_mut(&"a".parse::<AgentId>().unwrap()).unwrap().public = None;
    let (kind, bytes) = messages(Some(&mine.signer)).remove(0);
    let (why, reason) = hear(&trust, false, "a", &kind, &bytes).unwrap_err();
    assert!(why == Why::NotJoined && reason.contains("may join again"), "{reason}");
}

#[test]
fn garbage_is_named_and_a_foreign_reply_is_refused() {
    let trust = Trust::default();
    let rejected = |kind: Kind, bytes: &[u8]| hear(&trust, false, "a", &kind, bytes).unwrap_err();
    assert_eq!(rejected(Kind::Observed, b"{").0, Why::Damaged);
    let reply = Reply { id: "x".parse().unwrap(), nonce: Nonce([0; 16]), seq: 0, body: ReplyBody::Accepted };
    let bytes = codec::seal(Envelope::Reply, &reply, None).unwrap();
    let (why, reason) = rejected(Kind::Reply("y".parse().unwrap()), &bytes);
    assert!(why == Why::Misplaced && reason.contains("carries the id 'x'"), "{reason}");
    assert!(rejected(Kind::Observed, &bytes).1.contains("Reply"));
    assert!(hear(&trust, false, "a", &Kind::Reply("x".parse().unwrap()), &bytes).is_ok());
    let empty = Inbound {
        agent: "a".parse().unwrap(),
        kind: Kind::Presence,
        payload: Bytes::new(),
        content_type: String::new(),
        retained: false,
    };
    assert_eq!((Ears { joined_only: true }).event(&trust, BusEvent::Message(empty)), None);
}
