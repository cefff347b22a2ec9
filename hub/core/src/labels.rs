//! Which labels does a selector want, and what does a query on the command line ask for?

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use contract::spec::{Expression, Operator, Selector};

pub type Labels = BTreeMap<String, String>;

/// The first demand of a selector that labels do not meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Miss<'a> {
    Label(&'a str, &'a str),
    Expression(&'a Expression),
}

/// None: the labels are what the selector wants.
pub fn miss<'a>(selector: Option<&'a Selector>, labels: &Labels) -> Option<Miss<'a>> {
    let selector = selector?;
    let wrong = selector.match_labels.iter().find(|(key, value)| labels.get(*key) != Some(value));
    if let Some((key, value)) = wrong {
        return Some(Miss::Label(key, value));
    }
    selector.match_expressions.iter().find(|e| !holds(e, labels)).map(Miss::Expression)
}

fn holds(expression: &Expression, labels: &Labels) -> bool {
    let value = labels.get(&expression.key);
    match expression.operator {
        Operator::In => value.is_some_and(|v| expression.values.contains(v)),
        // As in Kubernetes: a board without the label is "not in" as well.
        Operator::NotIn => value.is_none_or(|v| !expression.values.contains(v)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Label(key, value) => write!(f, "{key}={value}"),
            Miss::Expression(e) => match e.operator {
                Operator::In => write!(f, "{} in ({})", e.key, e.values.join(", ")),
                Operator::NotIn => write!(f, "{} not in ({})", e.key, e.values.join(", ")),
                Operator::Exists => write!(f, "{} to exist", e.key),
                Operator::DoesNotExist => write!(f, "{} not to exist", e.key),
            },
        }
    }
}

/// `-l line=a,site!=north,gpu,!old`: all parts must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query(Selector);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a label query: write key=value, key!=value, key or !key, with commas between")]
pub struct QueryError(String);

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Query, QueryError> {
        let mut selector = Selector::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            selector.match_expressions.push(query_part(part)?);
        }
        Ok(Query(selector))
    }
}

fn query_part(part: &str) -> Result<Expression, QueryError> {
    let (key, operator, value) = if let Some((key, value)) = part.split_once("!=") {
        (key, Operator::NotIn, Some(value))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Operator::In, Some(value))
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Operator::DoesNotExist, None)
    } else {
        (part, Operator::Exists, None)
    };
    let (key, value) = (key.trim(), value.map(str::trim));
    let legal = contract::label::check_key(key).is_ok()
        && value.is_none_or(|v| contract::label::check_value(v).is_ok());
    if !legal {
        return Err(QueryError(contract::field::shown(part)));
    }
    Ok(Expression { key: key.into(), operator, values: value.map(str::to_string).into_iter().collect() })
}

impl Query {
    pub fn is_empty(&self) -> bool {
        self.0 == Selector::default()
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.match_expressions.iter().map(|e| e.key.as_str())
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        miss(Some(&self.0), labels).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn expressions_hold_as_in_kubernetes() {
        let with = labels(&[("line", "a")]);
        let without = labels(&[]);
        let expression = |operator, values: &[&str]| Expression {
            key: "line".into(),
            operator,
            values: values.iter().map(|v| v.to_string()).collect(),
        };
        for (operator, values, has, has_not) in [
            (Operator::In, &["a", "b"][..], true, false),
            (Operator::In, &["b"], false, false),
            (Operator::NotIn, &["a"], false, true),
            (Operator::NotIn, &["b"], true, true),
            (Operator::Exists, &[], true, false),
            (Operator::DoesNotExist, &[], false, true),
        ] {
            let e = expression(operator, values);
            assert_eq!((holds(&e, &with), holds(&e, &without)), (has, has_not), "{e:?}");
        }
    }

    #[test]
    fn a_miss_says_what_is_wanted() {
        let selector = Selector { match_labels: labels(&[("line", "a")]), ..Selector::default() };
        assert_eq!(miss(Some(&selector), &labels(&[("line", "b")])).unwrap().to_string(), "line=a");
        assert_eq!(miss(Some(&selector), &labels(&[("line", "a")])), None);
        assert_eq!(miss(None, &labels(&[])), None);
    }

    #[test]
    fn a_query_reads_as_people_write_it() {
        let query: Query = "line=a, site!=north,gpu,!old".parse().unwrap();
        assert!(query.matches(&labels(&[("line", "a"), ("gpu", "")])));
        assert!(!query.matches(&labels(&[("line", "a"), ("gpu", ""), ("old", "1")])));
        assert!(!query.matches(&labels(&[("line", "a"), ("gpu", ""), ("site", "north")])));
        assert!("a b=1".parse::<Query>().is_err());
        assert!("".parse::<Query>().unwrap().matches(&labels(&[])));
    }
}
