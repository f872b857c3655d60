//! Records in a PostgreSQL database: one row a call, several in one transaction.
//!
//! The thread of the lane drives the connection, with a small runtime of its own, for as long as it has something to say.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::lane::{Failure, Sink};
use super::postgres_tls::Connector;
use super::row::{Cell, INDEXED, KEY, Record, TABLE, columns, shape};
use crate::config::CdrPostgres;

/// How long one transaction may take.
const WITHIN: Duration = Duration::from_secs(15);
/// How long it may take to remove what is old.
const FORGET_WITHIN: Duration = Duration::from_secs(300);

/// See the module. After a failure it is connected anew.
pub(super) struct Postgres {
    config: CdrPostgres,
    /// Made by the thread that uses it, and dropped by it: a runtime may not be dropped within another.
    runtime: Option<Runtime>,
    session: Option<Session>,
}

/// A connection that stands.
struct Session {
    client: Client,
    insert: Statement,
    wire: Wire,
}

/// What carries the client's words; its end is the connection's.
type Wire = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Why it did not come about.
enum Trouble {
    Database(Error),
    Closed,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Database(error)
    }
}

impl Postgres {
    /// It is connected by the first record.
    pub(super) fn new(config: CdrPostgres) -> Postgres {
        Postgres { config, runtime: None, session: None }
    }

    /// Does something with a connection, a new one where there is none. One that failed is not used again.
    fn with(
        &mut self,
        within: Duration,
        work: impl AsyncFnOnce(&mut Client, &Statement) -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::Later(format!("no runtime for PostgreSQL: {error}")))?,
        };
        let (config, session) = (&self.config, self.session.take());
        let work = async {
            let mut session = match session {
                Some(session) => session,
                None => connect(config).await?,
            };
            let Session { client, insert, wire } = &mut session;
            carried(wire, work(client, insert)).await?;
            Ok::<_, Trouble>(session)
        };
        // A timer is made within its runtime.
        let done = runtime.block_on(async { tokio::time::timeout(within, work).await });
        self.runtime = Some(runtime);
        match done {
            Ok(Ok(session)) => {
                self.session = Some(session);
                Ok(())
            }
            Ok(Err(Trouble::Database(error))) => Err(failure(&error)),
            Ok(Err(Trouble::Closed)) => Err(Failure::Later("the connection is closed".into())),
            Err(_) => Err(Failure::Later(format!("PostgreSQL does not answer within {within:?}"))),
        }
    }
}

impl Sink for Postgres {
    fn write(&mut self, records: &[Arc<Record>]) -> Result<usize, Failure> {
        let rows: Vec<_> = records.iter().map(|record| columns(record)).collect();
        self.with(WITHIN, async |client, insert| {
            let transaction = client.transaction().await?;
            for row in &rows {
                let values: Vec<&(dyn ToSql + Sync)> = row.iter().map(|(_, cell)| value(cell)).collect();
                transaction.execute(insert, &values).await?;
            }
            transaction.commit().await
        })?;
        Ok(records.len())
    }

    fn forget(&mut self, before_ms: u64) -> Result<(), Failure> {
        let before = i64::try_from(before_ms).unwrap_or(i64::MAX);
        self.with(FORGET_WITHIN, async |client, _| {
            let delete = format!("DELETE FROM {TABLE} WHERE started_ms < $1");
            client.execute(delete.as_str(), &[&before]).await.map(drop)
        })
    }
}

/// Does some work of the client's while its connection is driven.
async fn carried<T>(wire: &mut Wire, work: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    tokio::select! {
        biased;
        done = work => Ok(done?),
        closed = wire => Err(closed.map_or_else(Trouble::Database, |()| Trouble::Closed)),
    }
}

/// Whether the database takes us; nothing is made there.
///
/// # Errors
/// Why it does not, for people.
pub(in crate::gateway) async fn ask(config: &CdrPostgres) -> Result<(), String> {
    let asked = async {
        let (client, connection) = config.database.connect(Connector::new(&config.tls)).await?;
        let mut wire: Wire = Box::pin(connection);
        carried(&mut wire, client.simple_query("SELECT 1")).await
    };
    match tokio::time::timeout(WITHIN, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(Trouble::Database(error))) => Err(match failure(&error) {
            Failure::Later(why) | Failure::Never(why) => why,
        }),
        Ok(Err(Trouble::Closed)) => Err("the connection is closed".into()),
        Err(_) => Err(format!("it does not answer within {WITHIN:?}")),
    }
}

async fn connect(config: &CdrPostgres) -> Result<Session, Trouble> {
    let (mut client, connection) = config.database.connect(Connector::new(&config.tls)).await?;
    let mut wire: Wire = Box::pin(connection);
    let insert = carried(&mut wire, prepare(&mut client)).await?;
    Ok(Session { client, insert, wire })
}

/// Makes the table, or the columns that one of an earlier version does not have, and the statement that fills it. Where the
/// table is whole no right to make anything is needed.
async fn prepare(client: &mut Client) -> Result<Statement, Error> {
    let question = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped";
    let there = client.query(question, &[&TABLE]).await?;
    let there = there.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if there.is_empty() {
        let columns: Vec<String> = shape().iter().map(|(name, cell)| column(name, cell)).collect();
        let started = "started timestamptz GENERATED ALWAYS AS (to_timestamp(started_ms / 1000.0)) STORED";
        let key = KEY.join(", ");
        let mut all = format!("CREATE TABLE {TABLE} ({}, {started}, PRIMARY KEY ({key}));", columns.join(", "));
        for name in INDEXED {
            all.push_str(&format!(" CREATE INDEX {TABLE}_{name} ON {TABLE} ({name});"));
        }
        let transaction = client.transaction().await?;
        transaction.batch_execute(&all).await?;
        transaction.commit().await?;
    } else {
        for (name, cell) in shape().iter().filter(|(name, _)| !there.iter().any(|old| old == name)) {
            client.batch_execute(&format!("ALTER TABLE {TABLE} ADD COLUMN {}", column(name, cell))).await?;
        }
    }
    let shape = shape();
    let names: Vec<&str> = shape.iter().map(|(name, _)| *name).collect();
    let mark = |(number, (_, cell)): (usize, &(&str, Cell))| match cell {
        Cell::Text(_) => format!("${}::text", number + 1),
        Cell::Integer(_) => format!("${}::bigint", number + 1),
        Cell::Real(_) => format!("${}::float8", number + 1),
        Cell::Json(_) => format!("${}::text::jsonb", number + 1),
    };
    let marks: Vec<String> = shape.iter().enumerate().map(mark).collect();
    let (names, marks) = (names.join(", "), marks.join(", "));
    client.prepare(&format!("INSERT INTO {TABLE} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING")).await
}

fn column(name: &str, cell: &Cell) -> String {
    let kind = match cell {
        Cell::Text(_) => "text",
        Cell::Integer(_) => "bigint",
        Cell::Real(_) => "float8",
        Cell::Json(_) => "jsonb",
    };
    format!("{name} {kind}{}", if KEY.contains(&name) { " NOT NULL" } else { "" })
}

fn value(cell: &Cell) -> &(dyn ToSql + Sync) {
    match cell {
        Cell::Text(value) => value,
        Cell::Integer(value) => value,
        Cell::Real(value) => value,
        Cell::Json(value) => value,
    }
}

/// What the database says of a row itself is said of it for ever; all else may pass.
fn failure(error: &Error) -> Failure {
    let text = match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{}: {}", said.severity(), said.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    };
    let of_the_row = |state: &SqlState| state.code().starts_with("22") || state.code().starts_with("23");
    if error.code().is_some_and(of_the_row) { Failure::Never(text) } else { Failure::Later(text) }
}
