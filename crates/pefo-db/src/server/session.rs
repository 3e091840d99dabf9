//! One connection to a server, and what PostgreSQL says on it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pefo_core::cancel::{Cancel, NOTICE};
use pefo_core::{Error, ErrorKind, Result};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::stop;

/// How long a server has to end a statement that was cancelled; then the connection is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Everything that changes how a value prints, how long a statement may take, or what a statement
/// sees, as it must be on both masters. `search_path` empty, so that names print qualified.
const PINNED: &str = "\
set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; \
set extra_float_digits = 3; set bytea_output = 'hex'; set lc_monetary = 'C'; \
set client_encoding = 'UTF8'; set standard_conforming_strings = on; set quote_all_identifiers = off; \
set search_path = ''; set row_security = off; \
set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
set default_transaction_read_only = off; set default_transaction_isolation = 'read committed'; \
set default_transaction_deferrable = off; set synchronous_commit = on; \
select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings \
  where name in ('idle_session_timeout', 'transaction_timeout');";

/// The server looks whether we are still there while it works on a statement, and ends it where not
/// (since 14, on systems that can): a killed run's queries do not outlive it by long.
const WATCHED: &str = "\
select pg_catalog.set_config(name, '1s', false) from pg_catalog.pg_settings where name = 'client_connection_check_interval'";

/// What a connection is made over.
#[derive(Clone)]
pub(crate) enum Line {
    /// A socket, or plain TCP.
    Plain,
    /// TLS, and nothing else.
    Tls(MakeRustlsConnect),
}

/// One connection; closed when dropped.
pub(crate) struct Session {
    client: Client,
    task: JoinHandle<()>,
    broken: Arc<Mutex<Option<String>>>,
    line: Line,
    cancel: Cancel,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// Connects as `config` says.
    pub(super) async fn open(
        config: &mut Config,
        line: Line,
    ) -> Result<Self, tokio_postgres::Error> {
        match &line {
            Line::Plain => Self::open_over(config, NoTls, line).await,
            Line::Tls(tls) => {
                let tls = tls.clone();
                Self::open_over(config.ssl_mode(SslMode::Require), tls, line).await
            }
        }
    }

    async fn open_over<T>(
        config: &Config,
        tls: T,
        line: Line,
    ) -> Result<Self, tokio_postgres::Error>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = config.connect(tls).await?;
        let broken = Arc::new(Mutex::new(None));
        let report = Arc::clone(&broken);
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(describe(&error));
            }
        });
        Ok(Self {
            client,
            task,
            broken,
            line,
            cancel: Cancel::new(),
        })
    }

    /// Pins what decides how values print.
    pub(super) async fn prepare(&self) -> Result<()> {
        self.batch("prepare the session", PINNED).await?;
        // A server on a system that cannot look refuses; it then notices later.
        drop(self.raw_batch(WATCHED).await);
        Ok(())
    }

    /// From here on a statement that runs when stop is said is cancelled on the server, and it and all
    /// that follow fail with `Cancelled`.
    pub(crate) fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    async fn attend<T>(
        &self,
        what: &str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let mut statement = pin!(statement);
        if !self.cancel.is_cancelled() {
            tokio::select! {
                outcome = &mut statement => return outcome.map_err(|error| self.error(what, error)),
                () = stop::said(&self.cancel) => {}
            }
            tokio::select! {
                _ = &mut statement => {}
                () = self.cancel_again_and_again() => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        Err(Error::new(
            ErrorKind::Cancelled,
            format!("{what}: it was cancelled"),
        ))
    }

    /// A request that arrives between two messages of a statement cancels nothing, so one is not enough.
    async fn cancel_again_and_again(&self) {
        loop {
            self.request_cancel().await;
            tokio::time::sleep(NOTICE).await;
        }
    }

    async fn request_cancel(&self) {
        let token = self.client.cancel_token();
        let outcome = match &self.line {
            Line::Plain => token.cancel_query(NoTls).await,
            Line::Tls(tls) => token.cancel_query(tls.clone()).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a statement could not be cancelled");
        }
    }

    /// Ends the session and waits until the connection is closed on our side.
    pub(crate) async fn close(mut self) {
        let task = std::mem::replace(&mut self.task, tokio::spawn(async {}));
        drop(self);
        // The task ends by itself once its client is gone; a panic in it ends it too.
        drop(task.await);
    }

    pub(crate) async fn batch(&self, what: &str, sql: &str) -> Result<()> {
        self.attend(what, self.client.batch_execute(sql)).await
    }

    /// [`Session::batch`] with PostgreSQL's own error, for who must tell its code.
    pub(crate) async fn raw_batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    pub(crate) async fn rows(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.attend(what, self.client.query(sql, parameters)).await
    }

    pub(crate) async fn row(
        &self,
        what: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row> {
        self.attend(what, self.client.query_one(sql, parameters))
            .await
    }

    /// The server's version as one number: 150014 for 15.14.
    pub(crate) async fn version_num(&self) -> Result<u32> {
        let row = self
            .row(
                "ask for the version",
                "select pg_catalog.current_setting('server_version_num')",
                &[],
            )
            .await?;
        let text: String = get(&row, 0)?;
        text.parse().map_err(|_| {
            Error::new(
                ErrorKind::Protocol,
                format!("the server's version is {text:?}"),
            )
        })
    }

    /// An error of PostgreSQL as one of ours, with why the connection broke where it did.
    pub(crate) fn error(&self, what: &str, error: tokio_postgres::Error) -> Error {
        let mut said = describe(&error);
        if error.is_closed()
            && let Some(why) = self
                .broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
        {
            said = why.clone();
        }
        let code = error.code().map_or("", SqlState::code);
        let kind = match code {
            "42501" => ErrorKind::Denied,
            "3D000" => ErrorKind::NotFound,
            "57P01" | "57P02" | "57P03" | "" => ErrorKind::Unreachable,
            _ => ErrorKind::Protocol,
        };
        Error::new(kind, format!("{what}: {said}")).with_source(error)
    }
}

/// A column of a row, or `Protocol`.
pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T> {
    row.try_get(column).map_err(|error| {
        Error::new(
            ErrorKind::Protocol,
            format!("column {column} of an answer: {error}"),
        )
        .with_source(error)
    })
}

/// What PostgreSQL said, with its detail, else what went wrong below it.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return match said.detail() {
            Some(detail) => format!("{} ({detail})", said.message()),
            None => said.message().to_owned(),
        };
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
