//! Which question a path and a query are, and what the answer is: without sockets, files or a clock of its own.

use std::time::Duration;

use pefo_core::clock::Timestamp;
use pefo_core::generation::DataSet;
use pefo_core::reign::Role;

use super::view::{Known, View};
use crate::config::Span;

/// A proof that lies further ahead than this was made before the clock was set back, and proves nothing.
const AHEAD: Duration = Duration::from_secs(60);

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Is this host the active?
    Active,
    /// Is it the passive, and no further behind than this?
    Passive(Bound),
    /// Can it tell?
    Ready,
    /// All that `pefo status` tells.
    Status,
}

/// How far a passive may be behind, and with which data sets; with all of them where none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bound {
    lag: Option<Span>,
    datasets: Vec<DataSet>,
}

/// An answer: a status code of HTTP and one line that says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn new(code: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        // One line, whatever a name or an error holds.
        let line: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        Self { code, text: line }
    }

    fn yes(text: impl Into<String>) -> Self {
        Self::new(200, text)
    }

    fn no(text: impl Into<String>) -> Self {
        Self::new(503, text)
    }
}

impl Question {
    /// Reads a question.
    ///
    /// # Errors
    /// The answer: 404 to a path that is none, 400 to a query that is wrong.
    pub(super) fn parse(path: &str, query: Option<&str>) -> Result<Self, Answer> {
        let query = query.unwrap_or_default();
        let question = match path {
            "/active" => Self::Active,
            "/passive" => return Bound::parse(query).map(Self::Passive),
            "/ready" => Self::Ready,
            "/status" => Self::Status,
            _ => {
                let text = "nothing here; ask /active, /passive?lag=30s, /ready or /status";
                return Err(Answer::new(404, text));
            }
        };
        if query.is_empty() {
            Ok(question)
        } else {
            Err(Answer::new(400, format!("{path} takes no parameters")))
        }
    }

    /// The answer of a host of which this is known; nothing to [`Question::Status`], which needs more.
    pub(super) fn answer(&self, view: &View, now: Timestamp) -> Option<Answer> {
        let known = match view {
            View::Known(known) => known,
            View::Unknown(_) if *self == Self::Status => return None,
            View::Unknown(why) => return Some(Answer::no(format!("not known: {why}"))),
        };
        Some(match self {
            Self::Status => return None,
            Self::Ready => Answer::yes("ready"),
            Self::Active => known.is(Role::Active).map_or_else(Answer::no, Answer::yes),
            Self::Passive(bound) => match known.is(Role::Passive) {
                Ok(stands) => bound.answer(known, &stands, now),
                Err(why) => Answer::no(why),
            },
        })
    }
}

impl Known {
    /// What it is, where it is that and nothing keeps it from it.
    fn is(&self, role: Role) -> Result<String, String> {
        let stands = format!("{} in epoch {}", self.role, self.epoch);
        match &self.kept_from {
            Some(why) => Err(why.clone()),
            None if self.role != role => Err(stands),
            None if self.is_paused => Ok(format!("{stands}, paused")),
            None => Ok(stands),
        }
    }
}

impl Bound {
    fn parse(query: &str) -> Result<Self, Answer> {
        let bad = |what: String| Answer::new(400, what);
        let mut bound = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "lag" if bound.lag.is_some() => return Err(bad("lag is given twice".to_owned())),
                "lag" => {
                    let lag = value.parse::<Span>();
                    bound.lag = Some(lag.map_err(|error| bad(format!("lag: {error}")))?);
                }
                "dataset" => {
                    let dataset = value.parse::<DataSet>();
                    bound
                        .datasets
                        .push(dataset.map_err(|error| bad(format!("dataset: {error}")))?);
                }
                _ => {
                    return Err(bad(format!(
                        "{key:?} is no parameter of /passive; it takes lag and dataset"
                    )));
                }
            }
        }
        if bound.lag.is_none() && !bound.datasets.is_empty() {
            return Err(bad(
                "dataset says of what, and lag is missing, which says how much".to_owned(),
            ));
        }
        Ok(bound)
    }

    fn answer(&self, known: &Known, stands: &str, now: Timestamp) -> Answer {
        let Some(limit) = self.lag else {
            return Answer::yes(stands);
        };
        let unknown = |named: &&DataSet| !known.proofs.iter().any(|(dataset, _)| dataset == *named);
        if let Some(dataset) = self.datasets.iter().find(unknown) {
            return Answer::new(400, format!("{dataset} is no data set of this host's"));
        }
        let mut told = Vec::new();
        let mut is_in_step = true;
        for (dataset, proof) in &known.proofs {
            if !self.datasets.is_empty() && !self.datasets.contains(dataset) {
                continue;
            }
            let lag = proof
                .filter(|proof| proof.ahead_of(now) <= AHEAD)
                .map(|proof| now.since(proof));
            is_in_step &= lag.is_some_and(|lag| lag <= limit.duration());
            let lag = lag.map_or_else(|| "unknown".to_owned(), |lag| begun(lag).to_string());
            told.push(format!("{dataset} {lag}"));
        }
        let text = format!("{stands}; lag {} of {limit} allowed", told.join(", "));
        if is_in_step {
            Answer::yes(text)
        } else {
            Answer::no(text)
        }
    }
}

/// A lag as it is told: what is a little more than the limit is not told as the limit.
fn begun(lag: Duration) -> Span {
    Span::of_seconds(lag.as_secs() + u64::from(lag.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pefo_core::reign::Epoch;
    use proptest::prelude::*;

    const NOW: i64 = 1_763_800_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(NOW + seconds).unwrap()
    }

    fn host(role: Role) -> Known {
        Known {
            role,
            epoch: Epoch(3),
            kept_from: None,
            is_paused: false,
            proofs: vec![
                (DataSet::Ca, Some(at(-8))),
                (DataSet::Database("pe-rbac".to_owned()), Some(at(-1_900))),
            ],
        }
    }

    fn ask(question: &str, known: &Known) -> String {
        let (path, query) = match question.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (question, None),
        };
        let answer = Question::parse(path, query).and_then(|question| {
            question
                .answer(&View::Known(known.clone()), at(0))
                .ok_or(Answer::new(0, "status"))
        });
        let answer = answer.unwrap_or_else(|answer| answer);
        format!("{} {}", answer.code, answer.text)
    }

    #[test]
    fn each_role_is_told_where_it_is_in_force() {
        let (active, passive) = (host(Role::Active), host(Role::Passive));
        insta::assert_snapshot!(ask("/active", &active), @"200 active in epoch 3");
        insta::assert_snapshot!(ask("/active", &passive), @"503 passive in epoch 3");
        insta::assert_snapshot!(ask("/passive", &passive), @"200 passive in epoch 3");
        insta::assert_snapshot!(ask("/passive", &active), @"503 active in epoch 3");
        insta::assert_snapshot!(ask("/ready", &active), @"200 ready");
        let fenced = Known {
            kept_from: Some("b.lab reigns with epoch 4".to_owned()),
            ..active
        };
        insta::assert_snapshot!(ask("/active", &fenced), @"503 b.lab reigns with epoch 4");
        insta::assert_snapshot!(ask("/ready", &fenced), @"200 ready");
        let paused = Known {
            is_paused: true,
            ..passive
        };
        insta::assert_snapshot!(ask("/passive", &paused), @"200 passive in epoch 3, paused");
        let unknown = View::Unknown("this host is not set up".to_owned());
        for question in [
            Question::Active,
            Question::Passive(Bound::default()),
            Question::Ready,
        ] {
            assert_eq!(
                question.answer(&unknown, at(0)),
                Some(Answer::no("not known: this host is not set up"))
            );
        }
    }

    #[test]
    fn a_passive_is_in_step_where_no_data_set_that_is_asked_for_lags_more() {
        let passive = host(Role::Passive);
        insta::assert_snapshot!(ask("/passive?lag=30s", &passive), @"503 passive in epoch 3; lag ca 8 s, db:pe-rbac 1900 s of 30 s allowed");
        insta::assert_snapshot!(ask("/passive?lag=1h", &passive), @"200 passive in epoch 3; lag ca 8 s, db:pe-rbac 1900 s of 1 h allowed");
        insta::assert_snapshot!(ask("/passive?lag=30s&dataset=ca", &passive), @"200 passive in epoch 3; lag ca 8 s of 30 s allowed");
        insta::assert_snapshot!(ask("/passive?lag=8s&dataset=ca", &passive), @"200 passive in epoch 3; lag ca 8 s of 8 s allowed");
        insta::assert_snapshot!(ask("/passive?lag=7s&dataset=ca", &passive), @"503 passive in epoch 3; lag ca 8 s of 7 s allowed");
        insta::assert_snapshot!(ask("/passive?lag=1h&dataset=db%3Ape-rbac&dataset=ca", &passive), @"200 passive in epoch 3; lag ca 8 s, db:pe-rbac 1900 s of 1 h allowed");
        let mut never = passive.clone();
        never.proofs[0].1 = None;
        insta::assert_snapshot!(ask("/passive?lag=1h", &never), @"503 passive in epoch 3; lag ca unknown, db:pe-rbac 1900 s of 1 h allowed");
        // The clock was set back since.
        never.proofs[0].1 = Some(at(61));
        insta::assert_snapshot!(ask("/passive?lag=1h&dataset=ca", &never), @"503 passive in epoch 3; lag ca unknown of 1 h allowed");
        never.proofs[0].1 = Some(at(60));
        insta::assert_snapshot!(ask("/passive?lag=1h&dataset=ca", &never), @"200 passive in epoch 3; lag ca 0 s of 1 h allowed");
    }

    #[test]
    fn a_wrong_question_is_told_what_is_wrong_with_it() {
        let passive = host(Role::Passive);
        insta::assert_snapshot!(ask("/", &passive), @"404 nothing here; ask /active, /passive?lag=30s, /ready or /status");
        insta::assert_snapshot!(ask("/active?lag=3s", &passive), @"400 /active takes no parameters");
        insta::assert_snapshot!(ask("/passive?lag=30", &passive), @r#"400 lag: "30" is no span of time; write a number and one of s, min, h and d, as in "5 min""#);
        insta::assert_snapshot!(ask("/passive?lag=1s&lag=2s", &passive), @"400 lag is given twice");
        insta::assert_snapshot!(ask("/passive?log=1s", &passive), @r#"400 "log" is no parameter of /passive; it takes lag and dataset"#);
        insta::assert_snapshot!(ask("/passive?dataset=ca", &passive), @"400 dataset says of what, and lag is missing, which says how much");
        insta::assert_snapshot!(ask("/passive?lag=1s&dataset=nc", &passive), @"400 nc is no data set of this host's");
        assert!(ask("/passive?lag=1s&dataset=x", &passive).starts_with("400 dataset: "));
    }

    proptest! {
        #[test]
        fn no_question_makes_it_panic_and_every_answer_is_one_line(path in "/[a-z]{0,8}|/passive", query in "\\PC{0,40}|lag=[0-9]{1,25}(s|min|h|d)|lag=1s&dataset=\\PC{0,9}") {
            let view = View::Known(host(Role::Passive));
            let answer = match Question::parse(&path, Some(&query)) {
                Ok(question) => question.answer(&view, at(0)),
                Err(answer) => Some(answer),
            };
            if let Some(answer) = answer {
                prop_assert!(matches!(answer.code, 200 | 400 | 404 | 503));
                prop_assert!(!answer.text.chars().any(char::is_control));
            }
        }
    }
}
