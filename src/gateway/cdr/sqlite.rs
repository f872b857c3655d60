//! Records in an SQLite database: one row a call, each forced to the disk with its transaction.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};

use super::lane::{Failure, Sink};
use super::row::{Cell, INDEXED, KEY, Record, TABLE, columns, shape};

/// How long another program may hold the database.
const BUSY: Duration = Duration::from_secs(5);
/// Numbers are nobody else's business.
const MODE: u32 = 0o640;

/// See the module. After a failure it is opened anew.
pub(super) struct Sqlite {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    connection: Connection,
    insert: String,
}

impl Sqlite {
    /// Opens the database, which is made where there is none. What may pass (a full disk) is no reason not to start.
    pub(super) fn open(path: &Path) -> Result<Sqlite, rusqlite::Error> {
        let open = match open(path) {
            Ok(open) => Some(open),
            Err(error) if may_pass(&error) => {
                tracing::error!(path = %path.display(), %error, "CDRs wait in memory for their database");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Sqlite { path: path.to_owned(), open })
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Open) -> Result<T, rusqlite::Error>) -> Result<T, Failure> {
        let done = match &mut self.open {
            Some(open) => work(open),
            closed => open(&self.path).and_then(|open| work(closed.insert(open))),
        };
        done.map_err(|error| {
            self.open = None;
            let text = error.to_string();
            if will_never_do(&error) { Failure::Never(text) } else { Failure::Later(text) }
        })
    }
}

impl Sink for Sqlite {
    fn write(&mut self, records: &[Arc<Record>]) -> Result<usize, Failure> {
        self.with(|open| {
            let transaction = open.connection.transaction()?;
            {
                let mut insert = transaction.prepare(&open.insert)?;
                for record in records {
                    insert.execute(params_from_iter(columns(record).iter().map(|(_, cell)| cell)))?;
                }
            }
            transaction.commit()
        })?;
        Ok(records.len())
    }

    fn forget(&mut self, before_ms: u64) -> Result<(), Failure> {
        let before = i64::try_from(before_ms).unwrap_or(i64::MAX);
        self.with(|open| open.connection.execute(&format!("DELETE FROM {TABLE} WHERE started_ms < ?1"), [before]))?;
        Ok(())
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Text(Some(value)) | Cell::Json(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
            Cell::Integer(Some(value)) => (*value).into(),
            Cell::Real(Some(value)) => (*value).into(),
            Cell::Text(None) | Cell::Integer(None) | Cell::Real(None) => Null.into(),
        })
    }
}

fn open(path: &Path) -> Result<Open, rusqlite::Error> {
    // SQLite would make it with the usual mode; what it makes beside it has that of the file.
    let made = OpenOptions::new().create(true).append(true).mode(MODE).open(path);
    made.map(drop).or_else(|error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Ok(()), // said by SQLite
        _ => Err(rusqlite::Error::InvalidPath(format!("{}: {error}", path.display()).into())),
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // Readers and the writer do not wait for one another; what is committed outlives the machine's power.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    make_table(&connection)?;
    let shape = shape();
    let names: Vec<&str> = shape.iter().map(|(name, _)| *name).collect();
    let marks: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
    let insert = format!("INSERT OR IGNORE INTO {TABLE} ({}) VALUES ({})", names.join(", "), marks.join(", "));
    Ok(Open { connection, insert })
}

/// Makes the table, or the columns that one of an earlier version does not have.
fn make_table(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut info = connection.prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    let there = info.query_map([TABLE], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let column = |(name, cell): &(&'static str, Cell)| {
        let kind = match cell {
            Cell::Text(_) | Cell::Json(_) => "TEXT",
            Cell::Integer(_) => "INTEGER",
            Cell::Real(_) => "REAL",
        };
        format!("{name} {kind}{}", if KEY.contains(name) { " NOT NULL" } else { "" })
    };
    if there.is_empty() {
        let columns: Vec<String> = shape().iter().map(column).collect();
        let started =
            "started TEXT GENERATED ALWAYS AS (strftime('%Y-%m-%dT%H:%M:%fZ', started_ms / 1000.0, 'unixepoch'))";
        let key = KEY.join(", ");
        let mut all = format!("BEGIN; CREATE TABLE {TABLE} ({}, {started}, PRIMARY KEY ({key}));", columns.join(", "));
        for name in INDEXED {
            all.push_str(&format!(" CREATE INDEX {TABLE}_{name} ON {TABLE} ({name});"));
        }
        return connection.execute_batch(&format!("{all} COMMIT"));
    }
    for new in shape().iter().filter(|(name, _)| !there.iter().any(|old| old == name)) {
        connection.execute_batch(&format!("ALTER TABLE {TABLE} ADD COLUMN {}", column(new)))?;
    }
    Ok(())
}

fn may_pass(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(DiskFull | DatabaseBusy | DatabaseLocked | SystemIoFailure))
}

fn will_never_do(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    matches!(error.sqlite_error_code(), Some(ConstraintViolation | TooBig | TypeMismatch))
}
