//! Every refusal once, and that what is ours passes.

use super::*;

fn prefix() -> Prefix {
    Prefix::default()
}

fn press() -> Role {
    Role::Agent("press".parse().unwrap())
}

fn say(role: &Role, topic: &str, retain: bool, size: usize) -> Result<Topic, Refusal> {
    may_publish(&prefix(), role, &Said { topic, retain, size })
}

#[test]
fn names_make_the_role() {
    assert_eq!(role(Some("press"), "press", false), Ok(press()));
    assert_eq!(role(Some("press"), "press.b1", false), Ok(press()));
    assert_eq!(role(Some("$operator"), "anything", false), Ok(Role::Operator));
    assert_eq!(role(Some("$hub"), "x", false), Ok(Role::Hub));
    // No board is kept out by its name.
    for id in ["operator", "hub"] {
        assert_eq!(role(Some(id), id, false), Ok(Role::Agent(id.parse().unwrap())));
    }
    for (user, client) in [
        (Some("press"), "lathe"),
        (Some("press"), "press-2"),
        (Some("Press"), "Press"),
        (Some(""), ""),
        (None, "press"),
    ] {
        assert!(role(user, client, false).is_err(), "{user:?} {client}");
    }
}

#[test]
fn without_user_names_the_client_id_tells() {
    assert_eq!(role(None, "press.b1", true), Ok(press()));
    assert_eq!(role(None, "mosq-Xy12", true), Ok(Role::Operator));
    assert_eq!(role(None, "$operator", true), Ok(Role::Operator));
    assert_eq!(role(Some("press"), "press", true), Ok(press()));
    assert!(role(Some("press"), "lathe", true).is_err());
}

#[test]
fn an_agent_hears_its_own_only() {
    for filter in ["hub", "agents/press/desired", "agents/press/hello", "agents/press/command/+"] {
        assert!(may_subscribe(&prefix(), &press(), &format!("skerry/v1/{filter}")).is_ok(), "{filter}");
    }
    for filter in [
        "#",
        "+",
        "skerry/v1/#",
        "skerry/v1/+",
        "skerry/v1/agents/press/#",
        "skerry/v1/agents/press/+",
        "skerry/v1/agents/+/desired",
        "skerry/v1/agents/lathe/desired",
        "skerry/v1/agents/press/presence",
        "skerry/v1/agents/press/command/#",
        "$share/g/skerry/v1/hub",
        "$SYS/#",
        "",
        "skerry/v1/hub/",
    ] {
        assert!(may_subscribe(&prefix(), &press(), filter).is_err(), "{filter}");
    }
}

#[test]
fn an_operator_hears_all_below_the_prefix_and_says_nothing() {
    for filter in ["skerry/v1/#", "skerry/v1/agents/+/observed", "skerry/v1/hub"] {
        assert!(may_subscribe(&prefix(), &Role::Operator, filter).is_ok(), "{filter}");
    }
    for filter in
        ["#", "skerry/#", "skerry/v1", "skerry/v10/#", "skerry/+/agents/#", "$share/g/skerry/v1/#", "$SYS/#"]
    {
        assert!(may_subscribe(&prefix(), &Role::Operator, filter).is_err(), "{filter}");
    }
    assert!(say(&Role::Operator, "skerry/v1/hub", false, 1).is_err());
    assert!(say(&Role::Operator, "skerry/v1/agents/operator/events", false, 1).is_err());
}

#[test]
fn an_agent_says_its_own_only() {
    for (topic, retain) in
        [("observed", false), ("events", false), ("reply/c1", false), ("presence", true), ("presence", false)]
    {
        assert!(say(&press(), &format!("skerry/v1/agents/press/{topic}"), retain, 10).is_ok(), "{topic}");
    }
    for topic in [
        "skerry/v1/agents/lathe/observed",
        "skerry/v1/agents/press/desired",
        "skerry/v1/agents/press/command/c1",
        "skerry/v1/hub",
        "skerry/v1/agents/+/observed",
        "skerry/v1/agents/press/#",
        "skerry/v1/agents/press/reply/+",
        "other/agents/press/observed",
        "$SYS/x",
        "",
    ] {
        assert!(say(&press(), topic, false, 10).is_err(), "{topic}");
    }
    assert!(say(&press(), "skerry/v1/agents/press/observed", true, 10).is_err(), "retained");
    assert!(say(&press(), "skerry/v1/agents/press/observed", false, WIRE_BYTES_MAX + 1).is_err());
    assert!(say(&press(), "skerry/v1/agents/press/presence", true, PRESENCE_BYTES_MAX + 1).is_err());
}

#[test]
fn another_hub_says_what_a_hub_says() {
    for (topic, retain, size) in [
        ("hub", true, 9),
        ("agents/press/desired", true, 9),
        ("agents/press/hello", false, 9),
        ("agents/press/command/c1", false, 9),
        ("agents/press/presence", true, 0),
    ] {
        assert!(say(&Role::Hub, &format!("skerry/v1/{topic}"), retain, size).is_ok(), "{topic}");
    }
    for (topic, retain, size) in [
        ("agents/press/presence", true, 9),
        ("agents/press/observed", false, 9),
        ("agents/press/hello", true, 9),
        ("agents/press/command/c1", true, 9),
    ] {
        assert!(say(&Role::Hub, &format!("skerry/v1/{topic}"), retain, size).is_err(), "{topic}");
    }
    assert!(may_subscribe(&prefix(), &Role::Hub, "skerry/v1/agents/+/observed").is_ok());
    assert!(may_subscribe(&prefix(), &Role::Hub, "skerry/v1/#").is_err());
}

#[test]
fn a_will_is_the_agents_own_presence() {
    let payload = Bytes::from_static(b"gone");
    let will = |topic, retain| WillSeen { topic, retain, payload: &payload };
    let own = "skerry/v1/agents/press/presence";
    assert!(may_leave(&prefix(), &press(), &will(own, true)).is_ok());
    assert!(may_leave(&prefix(), &press(), &will(own, false)).is_err());
    for topic in [
        "skerry/v1/agents/lathe/presence",
        "skerry/v1/agents/press/observed",
        "skerry/v1/agents/+/presence",
        "x",
    ] {
        assert!(may_leave(&prefix(), &press(), &will(topic, true)).is_err(), "{topic}");
    }
    for role in [Role::Operator, Role::Hub] {
        assert!(may_leave(&prefix(), &role, &will(own, true)).is_err());
    }
    let large = Bytes::from(vec![0; PRESENCE_BYTES_MAX + 1]);
    for payload in [&large, &Bytes::new()] {
        assert!(may_leave(&prefix(), &press(), &WillSeen { topic: own, retain: true, payload }).is_err());
    }
}

#[test]
fn secrets_are_compared_whole() {
    assert!(same_secret(b"abc", b"abc"));
    for wrong in [&b""[..], b"ab", b"abd", b"abcd"] {
        assert!(!same_secret(wrong, b"abc"));
    }
}
