//! Faults and routes by name, and an injection as one word: `NAME[:ROUTE][:times=N][:after=N][:ms=N]`.
//!
//! `slow:import:ms=2000:times=1` delays one import by two seconds. Every fault and every route has a
//! name: the compiler holds the names against the variants, a test holds what is read against them.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Fault, Injection, Route};

/// What is wrong with a text that should be an injection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadInjection(String);

impl fmt::Display for BadInjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for BadInjection {}

/// Every fault there is; a slow one of no time at all.
const FAULTS: [Fault; 18] = [
    Fault::Unauthenticated,
    Fault::PermissionDenied,
    Fault::ServerError,
    Fault::DatabaseCorruption,
    Fault::UnexpectedResponse,
    Fault::Html,
    Fault::ErrorWithSuccess,
    Fault::Redirect,
    Fault::Truncated,
    Fault::Hang,
    Fault::FilteredView,
    Fault::ChangedAfterwards,
    Fault::Slow(Duration::ZERO),
    Fault::DisconnectAfterCommit,
    Fault::DisconnectBeforeCommit,
    Fault::ImportDropsGroup,
    Fault::ImportPartly,
    Fault::ImportIgnored,
];

const ROUTES: [Route; 10] = [
    Route::Any,
    Route::Groups,
    Route::Import,
    Route::UpdateClasses,
    Route::Classes,
    Route::Environments,
    Route::Create,
    Route::Group,
    Route::Validate,
    Route::LastClassUpdate,
];

impl Fault {
    /// Its name, such as `disconnect-after-commit`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission-denied",
            Self::ServerError => "server-error",
            Self::DatabaseCorruption => "database-corruption",
            Self::UnexpectedResponse => "unexpected-response",
            Self::Html => "html",
            Self::ErrorWithSuccess => "error-with-success",
            Self::Redirect => "redirect",
            Self::Truncated => "truncated",
            Self::Hang => "hang",
            Self::FilteredView => "filtered-view",
            Self::ChangedAfterwards => "changed-afterwards",
            Self::Slow(_) => "slow",
            Self::DisconnectAfterCommit => "disconnect-after-commit",
            Self::DisconnectBeforeCommit => "disconnect-before-commit",
            Self::ImportDropsGroup => "import-drops-group",
            Self::ImportPartly => "import-partly",
            Self::ImportIgnored => "import-ignored",
        }
    }

    /// The names of all faults.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FAULTS.iter().map(Fault::name)
    }
}

impl Route {
    /// Its name, such as `update-classes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Groups => "groups",
            Self::Import => "import",
            Self::UpdateClasses => "update-classes",
            Self::Classes => "classes",
            Self::Environments => "environments",
            Self::Create => "create",
            Self::Group => "group",
            Self::Validate => "validate",
            Self::LastClassUpdate => "last-class-update",
        }
    }

    /// The names of all routes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ROUTES.into_iter().map(Route::name)
    }
}

impl FromStr for Injection {
    type Err = BadInjection;

    fn from_str(text: &str) -> Result<Self, BadInjection> {
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default();
        let fault = FAULTS.into_iter().find(|fault| fault.name() == name);
        let Some(fault) = fault else {
            return Err(none_of("fault", name, Fault::names()));
        };
        let slow = matches!(fault, Fault::Slow(_));
        let (mut injection, mut delayed) = (Injection::new(fault), false);
        for word in words {
            injection = match word.split_once('=') {
                None => injection.on(route(word)?),
                Some(("times", number)) => injection.times(natural(word, number)?),
                Some(("after", number)) => injection.after(natural(word, number)?),
                Some(("ms", number)) if slow => {
                    let milliseconds: u32 = natural(word, number)?;
                    injection.fault = Fault::Slow(Duration::from_millis(milliseconds.into()));
                    delayed = true;
                    injection
                }
                Some(("ms", _)) => {
                    return Err(BadInjection(format!(
                        "{name} takes no time: only slow has ms=N"
                    )));
                }
                Some(_) => {
                    let msg = format!("{word:?} is none of a route, times=N, after=N, ms=N");
                    return Err(BadInjection(msg));
                }
            };
        }
        if slow && !delayed {
            return Err(BadInjection("slow needs ms=N".to_owned()));
        }
        Ok(injection)
    }
}

fn route(name: &str) -> Result<Route, BadInjection> {
    let route = ROUTES.into_iter().find(|route| route.name() == name);
    route.ok_or_else(|| none_of("route", name, Route::names()))
}

fn natural<N: FromStr>(word: &str, number: &str) -> Result<N, BadInjection> {
    let wrong = |_| BadInjection(format!("{word:?} has no natural number, or one too great"));
    number.parse().map_err(wrong)
}

fn none_of(what: &str, name: &str, names: impl Iterator<Item = &'static str>) -> BadInjection {
    let names: Vec<&str> = names.collect();
    BadInjection(format!(
        "there is no {what} {name:?}, only {}",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_and_every_route_is_reached_by_its_name() {
        for fault in FAULTS {
            let text = match fault {
                Fault::Slow(_) => "slow:ms=0".to_owned(),
                _ => fault.name().to_owned(),
            };
            assert_eq!(text.parse::<Injection>().unwrap().fault, fault);
        }
        for route in ROUTES {
            let injection: Injection = format!("html:{}", route.name()).parse().unwrap();
            assert_eq!(injection, Injection::new(Fault::Html).on(route));
        }
    }

    #[test]
    fn an_injection_is_read_with_its_route_and_its_counts() {
        let injection: Injection = "slow:groups:times=2:after=1:ms=1500".parse().unwrap();
        let slow = Injection::new(Fault::Slow(Duration::from_millis(1500)));
        assert_eq!(injection, slow.on(Route::Groups).times(2).after(1));
    }

    #[test]
    fn what_is_no_injection_is_told_by_its_part() {
        for (text, says) in [
            ("", "there is no fault \"\""),
            ("hung", "there is no fault \"hung\", only unauthenticated, "),
            (
                "html:grops",
                "there is no route \"grops\", only any, groups, ",
            ),
            ("html:times=-1", "\"times=-1\" has no natural number"),
            ("html:ms=1", "html takes no time"),
            ("html:every=2", "\"every=2\" is none of"),
            ("slow:import", "slow needs ms=N"),
        ] {
            let error = text.parse::<Injection>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }
}
