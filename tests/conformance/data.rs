//! The messages, from the test data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::table::{Case, Mend};
use crate::{rfc4475, rfc5118};

/// Each case with its message, mended; nothing where the test data is not at hand and not required.
pub fn cases() -> Vec<(Case, Vec<u8>)> {
    let mut cases = Vec::new();
    for (folder, table) in [("rfc4475", rfc4475::CASES), ("rfc5118", rfc5118::CASES)] {
        let Some(root) = root(folder) else { continue };
        for case in table {
            let path = root.join(case.file);
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            cases.push((*case, mend(case.mend, bytes)));
        }
    }
    cases
}

/// The message of one file.
pub fn message(file: &str) -> Option<Vec<u8>> {
    cases().into_iter().find(|(case, _)| case.file == file).map(|(_, bytes)| bytes)
}

fn root(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("RINGBACK_TESTDATA").map_or_else(|| PathBuf::from("../shared/testdata"), PathBuf::from);
    let root = root.join(folder);
    if root.is_dir() {
        return Some(root);
    }
    assert!(
        std::env::var("RINGBACK_REQUIRE_TESTDATA").as_deref() != Ok("1"),
        "test data is required: no folder {}",
        root.display()
    );
    eprintln!("not tested, as there is no folder {}", root.display());
    None
}

fn mend(mend: Mend, mut bytes: Vec<u8>) -> Vec<u8> {
    match mend {
        Mend::Nothing => bytes,
        Mend::EmptyLine => {
            assert!(!bytes.ends_with(b"\r\n\r\n"), "the copy has its empty line by now");
            bytes.extend_from_slice(b"\r\n");
            bytes
        }
        Mend::ContentLength => {
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let (before, after) = head.split_once("Content-Length: ").unwrap();
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}Content-Length: {}{rest}\r\n\r\n{body}", body.len()).into_bytes()
        }
    }
}

fn files(root: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "dat" || extension == "sip") {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn every_file_has_its_row_and_every_row_its_file() {
    for (folder, table) in [("rfc4475", rfc4475::CASES), ("rfc5118", rfc5118::CASES)] {
        let Some(root) = root(folder) else { continue };
        let mut found = BTreeSet::new();
        files(&root, &root, &mut found);
        let rows: BTreeSet<String> = table.iter().map(|case| case.file.to_owned()).collect();
        assert_eq!(found, rows);
        assert_eq!(table.len(), rows.len(), "each once");
    }
}
