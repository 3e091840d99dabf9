//! What can go wrong, where and how often.

use std::time::Duration;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 401, as to a client without certificate or token.
    Unauthenticated,
    /// 403.
    PermissionDenied,
    /// 500 with an error report (`application-error`); nothing happens.
    ServerError,
    /// 500 with `database-corruption`; nothing happens.
    DatabaseCorruption,
    /// 500 with `unexpected-response`: the master gave the classifier no classes. Nothing is read, and
    /// the environments say that their last reading failed.
    UnexpectedResponse,
    /// 200 with a page of HTML; nothing happens.
    Html,
    /// 200 with an error report; nothing happens.
    ErrorWithSuccess,
    /// 302 to the console's login page; nothing happens.
    Redirect,
    /// The answer ends in the middle, and the connection with it.
    Truncated,
    /// The answer begins and never ends.
    Hang,
    /// Only groups below no other than the root are shown: what a user with fewer rights sees.
    FilteredView,
    /// Some group is changed by somebody right after the answer.
    ChangedAfterwards,
    /// It is done, and answered, only after this time, whether or not the client still waits.
    Slow(Duration),
    /// It is done, and the connection ends without an answer.
    DisconnectAfterCommit,
    /// The connection ends without an answer, and nothing is done.
    DisconnectBeforeCommit,
    /// An import leaves one group out and says 204.
    ImportDropsGroup,
    /// An import deletes all groups, installs half and says 500.
    ImportPartly,
    /// An import does nothing and says 204.
    ImportIgnored,
}

/// Which requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// All.
    Any,
    /// `GET /v1/groups`.
    Groups,
    /// `POST /v1/import-hierarchy`.
    Import,
    /// `POST /v1/update-classes`.
    UpdateClasses,
    /// `GET /v1/classes`.
    Classes,
    /// `GET /v1/environments`.
    Environments,
    /// `POST /v1/groups`.
    Create,
    /// Whatever is asked of `/v1/groups/ID`.
    Group,
    /// `POST /v1/validate/group`.
    Validate,
    /// `GET /v1/last-class-update`.
    LastClassUpdate,
}

/// A fault on some requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    pub(crate) fault: Fault,
    route: Route,
    skip: usize,
    times: usize,
}

impl Injection {
    /// The fault on every request it naturally belongs to.
    pub fn new(fault: Fault) -> Self {
        let route = match fault {
            Fault::FilteredView | Fault::ChangedAfterwards | Fault::Truncated | Fault::Hang => {
                Route::Groups
            }
            Fault::Slow(_)
            | Fault::DisconnectAfterCommit
            | Fault::DisconnectBeforeCommit
            | Fault::ImportDropsGroup
            | Fault::ImportPartly
            | Fault::ImportIgnored => Route::Import,
            Fault::UnexpectedResponse => Route::UpdateClasses,
            _ => Route::Any,
        };
        Self {
            fault,
            route,
            skip: 0,
            times: usize::MAX,
        }
    }

    /// The fault.
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Only on these requests.
    #[must_use]
    pub fn on(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// Only after so many of them have passed unharmed.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Counts a request; the fault, where it strikes.
    pub(crate) fn strikes(&mut self, route: Route) -> Option<Fault> {
        if self.route != Route::Any && self.route != route {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.checked_sub(1)?;
        Some(self.fault.clone())
    }
}

impl Route {
    pub(crate) fn of(method: &str, path: &str) -> Self {
        match (method, path) {
            ("GET", "/v1/groups") => Self::Groups,
            ("POST", "/v1/import-hierarchy") => Self::Import,
            ("POST", "/v1/update-classes") => Self::UpdateClasses,
            ("GET", "/v1/classes") => Self::Classes,
            ("GET", "/v1/environments") => Self::Environments,
            ("POST", "/v1/groups") => Self::Create,
            (_, path) if path.starts_with("/v1/groups/") => Self::Group,
            ("POST", "/v1/validate/group") => Self::Validate,
            ("GET", "/v1/last-class-update") => Self::LastClassUpdate,
            _ => Self::Any,
        }
    }
}
