//! What is retained: in RAM, bounded by number and by bytes, gone with the process. The hub
//! publishes it again after a start, and desired on every connect, so a message that finds no room
//! is counted and forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rmqtt::Result;
use rmqtt::retain::RetainStorage;
use rmqtt::types::{Publish, Retain, TopicFilter, TopicName};

/// What an entry costs besides topic and payload.
const OVERHEAD_BYTES: usize = 300;

#[derive(Default)]
struct State {
    messages: HashMap<TopicName, (Retain, Option<Instant>)>,
    bytes: usize,
    refused: u64,
}

/// Clones are the same store.
#[derive(Clone)]
pub struct RetainStore {
    number_max: usize,
    bytes_max: usize,
    state: Arc<Mutex<State>>,
}

impl RetainStore {
    pub fn new(number_max: usize, bytes_max: usize) -> RetainStore {
        RetainStore { number_max, bytes_max, state: Arc::default() }
    }

    /// Number, bytes, and how many found no room.
    pub fn stats(&self) -> (usize, usize, u64) {
        let state = self.lock();
        (state.messages.len(), state.bytes, state.refused)
    }

    /// Everything whose topic `wanted`.
    pub fn select(&self, wanted: impl Fn(&str) -> bool) -> Vec<(TopicName, Publish)> {
        let state = self.lock();
        let live = state.messages.iter().filter(|(topic, (_, until))| is_live(until) && wanted(topic));
        live.map(|(topic, (retain, _))| (topic.clone(), retain.publish.clone())).collect()
    }

    pub fn put(&self, topic: &TopicName, retain: Retain) {
        let mut state = self.lock();
        state.remove(topic);
        if retain.publish.payload.is_empty() {
            return;
        }
        let cost = cost(topic, &retain.publish);
        if state.messages.len() >= self.number_max || state.bytes + cost > self.bytes_max {
            state.refused += 1;
            return;
        }
        let expiry = retain.publish.properties.as_ref().and_then(|p| p.message_expiry_interval);
        let until = expiry.map(|secs| Instant::now() + Duration::from_secs(secs.get().into()));
        state.bytes += cost;
        state.messages.insert(topic.clone(), (retain, until));
    }

    fn find(&self, filter: &TopicFilter) -> Vec<(TopicName, Retain)> {
        let state = self.lock();
        if !filter.contains(['+', '#']) {
            let found = state.messages.get(filter).filter(|(_, until)| is_live(until));
            return found.map(|(retain, _)| (filter.clone(), retain.clone())).into_iter().collect();
        }
        let found =
            state.messages.iter().filter(|(topic, (_, until))| is_live(until) && matches(filter, topic));
        found.map(|(topic, (retain, _))| (topic.clone(), retain.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, topic: &TopicName) {
        if let Some((old, _)) = self.messages.remove(topic) {
            self.bytes -= cost(topic, &old.publish);
        }
    }
}

fn cost(topic: &TopicName, publish: &Publish) -> usize {
    topic.len() + publish.payload.len() + OVERHEAD_BYTES
}

fn is_live(until: &Option<Instant>) -> bool {
    until.is_none_or(|until| Instant::now() < until)
}

/// MQTT's rule for filters; `#` also matches the level above it, and topics under `$` are nobody's.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(f), Some(t)) if f == t => {}
            _ => return false,
        }
    }
}

#[async_trait]
impl RetainStorage for RetainStore {
    fn enable(&self) -> bool {
        true
    }

    fn need_sync(&self) -> bool {
        false
    }

    /// The interval given here is the listener's default where the message has none of its own.
    async fn set(&self, topic: &TopicName, retain: Retain, _: Option<Duration>) -> Result<()> {
        self.put(topic, retain);
        Ok(())
    }

    async fn get(&self, filter: &TopicFilter) -> Result<Vec<(TopicName, Retain)>> {
        Ok(self.find(filter))
    }

    async fn count(&self) -> isize {
        isize::try_from(self.stats().0).unwrap_or(isize::MAX)
    }

    async fn max(&self) -> isize {
        isize::try_from(self.number_max).unwrap_or(isize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmqtt::types::{From, Id};

    fn retain(topic: &str, payload: &'static str) -> (TopicName, Retain) {
        let publish = crate::link::publish(topic.into(), payload.into(), String::new(), true, None);
        let from = From::from_system(Id::new(0, 0, None, None, "hub".into(), None));
        (topic.into(), Retain { msg_id: None, from, publish })
    }

    fn put(store: &RetainStore, topic: &str, payload: &'static str) {
        let (topic, message) = retain(topic, payload);
        store.put(&topic, message);
    }

    fn topics(store: &RetainStore, filter: &str) -> Vec<String> {
        let mut topics: Vec<String> = store.find(&filter.into()).iter().map(|(t, _)| t.to_string()).collect();
        topics.sort();
        topics
    }

    #[test]
    fn the_latest_is_kept_and_an_empty_one_clears() {
        let store = RetainStore::new(10, 10_000);
        put(&store, "a/b", "1");
        put(&store, "a/b", "22");
        let found = store.find(&"a/b".into());
        assert_eq!(&found[0].1.publish.payload[..], b"22");
        assert_eq!(store.stats(), (1, 3 + 2 + OVERHEAD_BYTES, 0));
        put(&store, "a/b", "");
        assert_eq!(store.stats(), (0, 0, 0));
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let store = RetainStore::new(2, 1000);
        for topic in ["a", "b", "c"] {
            put(&store, topic, "x");
        }
        assert_eq!(store.stats().2, 1);
        put(&store, "b", "y");
        assert_eq!((store.stats().0, store.stats().2), (2, 1), "a replacement needs no more room");
        let large: &'static str = Box::leak("z".repeat(900).into_boxed_str());
        put(&store, "a", large);
        assert_eq!((store.stats().0, store.stats().2), (1, 2));
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        let store = RetainStore::new(10, 10_000);
        for topic in ["s/v1/hub", "s/v1/agents/a/desired", "s/v1/agents/b/desired", "s/v1", "$SYS/x"] {
            put(&store, topic, "x");
        }
        assert_eq!(topics(&store, "s/v1/#").len(), 4);
        assert_eq!(topics(&store, "s/v1/agents/+/desired").len(), 2);
        assert_eq!(topics(&store, "s/v1/+"), ["s/v1/hub"]);
        assert_eq!(topics(&store, "#").len(), 4);
        assert_eq!(topics(&store, "s/v1/agents/a/desired").len(), 1);
        assert_eq!(topics(&store, "s/v1/agents/+").len(), 0);
    }
}
