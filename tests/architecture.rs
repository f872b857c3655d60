//! The law of `docs/architecture.md`, checked on the sources: who may import whom, which crate belongs to whom, sizes,
//! and the habits that no lint of the compiler knows (unbounded queues, detached tasks, teardown in `Drop`).
//!
//! Each rule is shown able to fail by the snippets at the end: a checker that finds nothing proves nothing.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// What a part may import: whole modules, or only the names given.
enum May {
    All(&'static [&'static str]),
    Some(&'static [(&'static str, &'static [&'static str])]),
}

/// One row of the table in `docs/architecture.md`.
struct Part {
    name: &'static str,
    /// The core is sans-IO: neither clocks nor sockets nor threads, and none of the shell's crates.
    core: bool,
    may: May,
}

const fn core(name: &'static str, may: May) -> Part {
    Part { name, core: true, may }
}

const fn shell(name: &'static str, may: May) -> Part {
    Part { name, core: false, may }
}

/// Everything but `main`.
const EVERYTHING: &[&str] = &[
    "call",
    "codec",
    "config",
    "dialplan",
    "gateway",
    "media",
    "net",
    "rtp",
    "sdp",
    "signal",
    "sip",
    "switch",
    "testphone",
    "webrtc",
    "worker",
];

/// What a dial plan may know of SIP: how a number or an address is written, and nothing of messages.
const URIS: &[&str] = &["uri", "Uri", "UriError", "Host", "Scheme", "Params"];
/// What a session description may know of codecs: their names.
const CODEC_NAMES: &[&str] = &["Codec"];

const TABLE: &[Part] = &[
    core("codec", May::All(&[])),
    core("rtp", May::All(&[])),
    core("sip", May::All(&[])),
    core("signal", May::All(&[])),
    core("sdp", May::Some(&[("codec", CODEC_NAMES)])),
    core("dialplan", May::Some(&[("sip", URIS)])),
    core("webrtc", May::All(&["rtp", "sdp"])),
    core("call", May::All(&["sip", "sdp", "signal", "dialplan"])),
    core("media", May::All(&["codec", "rtp", "sdp", "webrtc"])),
    core("switch", May::All(&["codec", "sip", "signal", "sdp", "dialplan", "call"])),
    shell("net", May::All(&[])),
    shell("worker", May::All(&["media", "net", "sdp", "webrtc"])),
    shell("testphone", May::All(&["codec", "net", "rtp", "sdp", "sip"])),
    shell("config", May::All(EVERYTHING)),
    shell("gateway", May::All(EVERYTHING)),
    // The two roots: the library's names its modules, the binary's only starts the gateway.
    shell("lib", May::All(EVERYTHING)),
    shell("main", May::All(EVERYTHING)),
];

/// Crates that belong to certain parts, and to nobody else.
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["main"]),
    ("audio_codec", &["codec"]),
    ("axum", &["gateway"]),
    ("clap", &["main", "config", "gateway"]),
    ("dimpl", &["webrtc"]),
    ("futures_util", &["gateway", "testphone"]),
    ("hickory_resolver", &["gateway"]),
    ("include_dir", &["gateway"]),
    ("jiff", &["dialplan"]),
    ("jsonwebtoken", &["signal"]),
    ("mio", &["net", "testphone", "worker"]),
    ("nix", &["net", "worker", "gateway", "main"]),
    ("opus", &["codec"]),
    ("opus_plc", &["codec"]),
    ("prometheus_client", &["gateway"]),
    ("rusqlite", &["gateway"]),
    ("rustls_native_certs", &["net"]),
    ("sdp_types", &["sdp"]),
    ("socket2", &["net"]),
    ("stun_types", &["webrtc"]),
    ("tokio", &["net", "gateway", "testphone", "main"]),
    ("tokio_postgres", &["config", "gateway"]),
    ("tokio_rustls", &["gateway", "net"]),
    ("tokio_util", &["gateway", "testphone", "main"]),
    ("tracing_subscriber", &["main", "config", "gateway"]),
    ("x509_cert", &["net"]),
];

/// The parts on whose code the way of a packet leads.
const NO_LOCKS: &[&str] = &["worker", "media", "rtp", "codec", "webrtc"];

/// What threads wait for one another by, in the standard library and the crates that have more of it.
const LOCKS: &[&str] = &[
    "Mutex",
    "RwLock",
    "ReentrantLock",
    "Condvar",
    "Barrier",
    "Once",
    "OnceLock",
    "LazyLock",
    "Semaphore",
    "Notify",
    "parking_lot",
    "spin",
    "crossbeam",
    "dashmap",
];

/// Locks all the same, each with its reason: file, lock.
const LOCKS_ALLOWED: &[(&str, &str)] = &[
    // What calls are opened with: read once a call, written at a reload.
    ("worker/mod.rs", "RwLock"),
];

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 100;

/// A place where the sources break the law.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Reads one file as the law sees it. `file` is its path below `src`; what is compiled for tests alone is free.
fn check(file: &str, text: &str) -> Vec<Finding> {
    check_file(file, text, false)
}

fn check_file(file: &str, text: &str, testing: bool) -> Vec<Finding> {
    let mut checker = Checker {
        file,
        part: TABLE.iter().find(|part| part.name == part_of(file)),
        module: module_of(file),
        testing,
        test_lines: BTreeSet::new(),
        code_lines: BTreeSet::new(),
        findings: Vec::new(),
    };
    let parsed = match syn::parse_file(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            checker.found(error.span().start().line, format!("is not Rust: {error}"));
            return checker.findings;
        }
    };
    if checker.part.is_none() {
        checker.found(1, format!("`{}` has no row in the table of tests/architecture.rs", part_of(file)));
        return checker.findings;
    }
    let source: Vec<&str> = text.lines().collect();
    let tokens: TokenStream = text.parse().unwrap_or_default();
    code_lines(tokens, &source, &mut checker.code_lines);
    checker.lints(&parsed);
    checker.visit_file(&parsed);
    checker.size();
    checker.findings
}

/// `sip/ua/mod.rs` belongs to `sip`, `config.rs` to `config`.
fn part_of(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The module path of a file: `sip/ua/mod.rs` is `sip::ua`, `sip/uri.rs` is `sip::uri`, `lib.rs` the root.
fn module_of(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|name| name == "mod" || name == "lib" || name == "main") {
        path.pop();
    }
    path
}

/// The lines that hold code: those with a token on them, of which a doc comment is none.
fn code_lines(tokens: TokenStream, source: &[&str], lines: &mut BTreeSet<usize>) {
    for token in tokens {
        let (start, end) = (token.span().start(), token.span().end());
        let text = source.get(start.line - 1).map_or("", |line| {
            let at = line.char_indices().nth(start.column).map_or(line.len(), |(at, _)| at);
            line.get(at..).unwrap_or("")
        });
        if text.starts_with("//") || text.starts_with("/*") {
            continue;
        }
        match token {
            TokenTree::Group(group) => {
                lines.insert(start.line);
                lines.insert(end.line);
                code_lines(group.stream(), source, lines);
            }
            _ => lines.extend(start.line..=end.line),
        }
    }
}

struct Checker<'a> {
    file: &'a str,
    part: Option<&'static Part>,
    module: Vec<String>,
    /// Inside what is compiled for tests alone.
    testing: bool,
    test_lines: BTreeSet<usize>,
    code_lines: BTreeSet<usize>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn found(&mut self, line: usize, what: impl Into<String>) {
        self.findings.push(Finding { file: self.file.to_owned(), line, what: what.into() });
    }

    fn code_between(&self, first: usize, last: usize) -> usize {
        self.code_lines.range(first..=last).filter(|line| !self.test_lines.contains(line)).count()
    }

    fn size(&mut self) {
        let lines = self.code_between(1, usize::MAX);
        if !self.testing && lines >= FILE_LINES {
            self.found(1, format!("{lines} lines of code; a file has fewer than {FILE_LINES}"));
        }
    }

    /// The root of each core part refuses clocks, threads, locks and sockets.
    fn lints(&mut self, file: &syn::File) {
        let Some(part) = self.part.filter(|part| part.core) else { return };
        if self.file != format!("{}/mod.rs", part.name) && self.file != format!("{}.rs", part.name) {
            return;
        }
        let denied: String = file
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("deny") || attribute.path().is_ident("forbid"))
            .filter_map(|attribute| attribute.meta.require_list().ok())
            .map(|list| list.tokens.to_string().replace(' ', ""))
            .collect::<Vec<_>>()
            .join(",");
        for lint in ["clippy::disallowed_methods", "clippy::disallowed_types"] {
            if !denied.split(',').any(|name| name == lint) {
                self.found(1, format!("a core part says #![deny({lint})]"));
            }
        }
    }

    /// One path as written, `crate::sip::Uri`: which part and crate does it name?
    fn path(&mut self, names: &[String], line: usize) {
        let Some(first) = names.first().filter(|_| !self.testing) else { return };
        self.locks(names, line);
        match first.as_str() {
            "crate" | "ringback" => self.import(names.get(1), names.get(2), line),
            "super" => {
                let ups = names.iter().take_while(|name| *name == "super").count();
                if ups > self.module.len() {
                    self.found(line, "`super` leads out of the crate");
                } else if ups == self.module.len() {
                    self.import(names.get(ups), names.get(ups + 1), line);
                }
            }
            name => self.external(name, line),
        }
    }

    /// No lock on the way of a packet. A type's name alone was imported somewhere, where it is found.
    fn locks(&mut self, names: &[String], line: usize) {
        let file = self.file;
        let allowed = |name: &str| LOCKS_ALLOWED.contains(&(file, name));
        if !NO_LOCKS.contains(&part_of(file)) {
            return;
        }
        for name in names.iter().filter(|name| LOCKS.contains(&name.as_str()) && !allowed(name)) {
            self.found(line, format!("`{name}` is a lock, and the way of a packet has none"));
        }
    }

    fn import(&mut self, target: Option<&String>, name: Option<&String>, line: usize) {
        let Some(part) = self.part else { return };
        let Some(target) = target.map(String::as_str).filter(|target| *target != "*") else {
            return self.found(line, format!("`{}` takes the whole crate; name the part", part.name));
        };
        if target == part.name || !TABLE.iter().any(|part| part.name == target) {
            return;
        }
        match &part.may {
            May::All(parts) if parts.contains(&target) => {}
            May::All(parts) => {
                let allowed = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
                self.found(line, format!("`{}` imports `{target}`; it may import {allowed}", part.name));
            }
            May::Some(parts) => match parts.iter().find(|(name, _)| *name == target) {
                Some((_, names)) if name.is_some_and(|name| names.contains(&name.as_str())) => {}
                Some((_, names)) => {
                    let name = name.map_or("*", String::as_str);
                    let what = format!(
                        "`{}` imports `{target}::{name}`; of `{target}` it may import {}",
                        part.name,
                        names.join(", ")
                    );
                    self.found(line, what);
                }
                None => self.found(line, format!("`{}` imports `{target}`, which its row does not name", part.name)),
            },
        }
    }

    fn external(&mut self, name: &str, line: usize) {
        let Some((_, owners)) = CRATES.iter().find(|(krate, _)| *krate == name) else { return };
        if !owners.contains(&part_of(self.file)) {
            self.found(line, format!("the crate `{name}` belongs to {} alone", owners.join(", ")));
        }
    }

    fn use_tree(&mut self, tree: &syn::UseTree, above: &[String]) {
        let mut names = above.to_vec();
        let line = tree.span().start().line;
        match tree {
            syn::UseTree::Path(path) => {
                names.push(path.ident.to_string());
                self.use_tree(&path.tree, &names);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, &names)),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                // `use crate::sip::{self, Uri}` names `crate::sip`.
                if ident != "self" {
                    names.push(ident.to_string());
                }
                self.path(&names, line);
            }
            syn::UseTree::Glob(_) => {
                names.push("*".to_owned());
                self.path(&names, line);
            }
        }
    }

    /// The arguments of a macro are not parsed by `syn`: paths are found in the bare tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut names: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.bare(&std::mem::take(&mut names), line);
                        line = ident.span().start().line;
                    }
                    names.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !names.is_empty() => colons += 1,
                other => {
                    self.bare(&std::mem::take(&mut names), line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.bare(&names, line);
    }

    /// In a macro a single word is a variable or a field, not a crate.
    fn bare(&mut self, names: &[String], line: usize) {
        if names.len() > 1 {
            self.path(names, line);
        }
    }

    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = self.code_between(span.start().line, span.end().line);
        if !self.testing && lines >= FUNCTION_LINES {
            self.found(
                span.start().line,
                format!("`{name}` has {lines} lines of code; a function has fewer than {FUNCTION_LINES}"),
            );
        }
    }

    /// A task or thread whose handle is thrown away cannot be joined at shutdown.
    fn detached(&mut self, expression: &syn::Expr) {
        let syn::Expr::Call(call) = expression else { return };
        let syn::Expr::Path(path) = &*call.func else { return };
        let names = names_of(&path.path);
        let spawns =
            ["spawn", "spawn_blocking", "spawn_local"].iter().any(|name| names.last().is_some_and(|last| last == name));
        if !self.testing && names.len() > 1 && spawns {
            self.found(
                call.span().start().line,
                format!("`{}` is detached: keep its handle and join it", names.join("::")),
            );
        }
    }
}

fn names_of(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// `#[cfg(test)]`
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Fields of a log line that are a number, or a user's name, which may be one.
const PERSONAL: &[&str] = &["user", "users", "to", "number", "dialled", "caller", "called", "callee", "did"];

impl Checker<'_> {
    /// A line of the log writes numbers and names of users by the type that masks them.
    fn log_line(&mut self, item: &syn::Macro) {
        let tokens: Vec<TokenTree> = item.tokens.clone().into_iter().collect();
        for field in tokens.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')) {
            let name = field.iter().find_map(|token| match token {
                TokenTree::Ident(name) => Some(name),
                _ => None,
            });
            let value = field.iter().map(ToString::to_string).collect::<String>();
            let Some(name) = name.filter(|name| PERSONAL.iter().any(|personal| name == personal)) else { continue };
            if !value.contains("shown") && !value.contains("Shown") {
                self.found(name.span().start().line, format!("`{name}` may be a number: log it as `Shown`"));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Checker<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = names_of(path);
        // One word alone is a local name.
        if names.len() > 1 {
            self.path(&names, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let allows = attribute.path().is_ident("allow") || attribute.path().is_ident("expect");
        if let (true, false, Some(true), Ok(list)) =
            (allows, self.testing, self.part.map(|part| part.core), attribute.meta.require_list())
            && list.tokens.to_string().contains("disallowed")
        {
            self.found(attribute.span().start().line, "a core part takes no exception from the bans of clippy.toml");
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let outside = self.testing;
        if is_test(&item.attrs) {
            self.testing = true;
            self.test_lines.extend(item.span().start().line..=item.span().end().line);
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
        self.testing = outside;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let drops =
            item.trait_.as_ref().is_some_and(|(path, _)| path.segments.last().is_some_and(|last| last.ident == "Drop"));
        if drops && !self.testing {
            self.found(
                item.span().start().line,
                "`impl Drop`: an end is a state that is reached and reported, not a side effect",
            );
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(path) = &*call.func {
            let names = names_of(&path.path);
            let last = names.last().map_or("", String::as_str);
            // `std::sync::mpsc::channel()` has no bound; the bounded ones take their size.
            let endless =
                ["unbounded_channel", "unbounded"].contains(&last) || (last == "channel" && call.args.is_empty());
            // A `watch` or `oneshot` holds one value.
            let single = names.iter().any(|name| name == "oneshot" || name == "watch");
            if endless && !single && !self.testing {
                self.found(call.span().start().line, format!("`{}` makes a queue without a bound", names.join("::")));
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        match statement {
            syn::Stmt::Expr(expression, Some(_)) => self.detached(expression),
            syn::Stmt::Local(syn::Local { pat: syn::Pat::Wild(_), init: Some(init), .. }) => self.detached(&init.expr),
            _ => {}
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if item.path.segments.first().is_some_and(|first| first.ident == "tracing") && !self.testing {
            self.log_line(item);
        }
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Every `.rs` below `folder`, as a path below it.
fn sources(folder: &Path, below: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder.join(below)).expect("a readable folder");
    for entry in entries.map(|entry| entry.expect("a directory entry")) {
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            sources(folder, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
}

/// The files that `file` declares with `#[cfg(test)] mod name;`, in whichever of the three forms.
fn test_files(file: &str, text: &str) -> Vec<String> {
    let Ok(parsed) = syn::parse_file(text) else { return Vec::new() };
    let beside = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let module = module_of(file).iter().map(|name| format!("{name}/")).collect::<String>();
    let tests = parsed.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) if item.content.is_none() && is_test(&item.attrs) => Some(item),
        _ => None,
    });
    tests
        .flat_map(|item| match path_attribute(&item.attrs) {
            Some(path) => vec![format!("{beside}{path}")],
            None => vec![format!("{module}{}.rs", item.ident), format!("{module}{}/", item.ident)],
        })
        .collect()
}

/// `#[path = "..."]`
fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
        _ => None,
    }
}

#[test]
fn the_sources_keep_the_law() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&folder, Path::new(""), &mut files);
    files.sort();
    assert!(files.len() > TABLE.len(), "only {} files below {}", files.len(), folder.display());
    let texts: Vec<(String, String)> = files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(folder.join(&file)).expect("a readable source");
            (file, text)
        })
        .collect();
    let tests: Vec<String> = texts.iter().flat_map(|(file, text)| test_files(file, text)).collect();
    let findings: Vec<String> = texts
        .iter()
        .flat_map(|(file, text)| {
            let testing = tests.iter().any(|test| file == test || (test.ends_with('/') && file.starts_with(test)));
            check_file(file, text, testing)
        })
        .map(|finding| finding.to_string())
        .collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn the_table_names_what_there_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for part in TABLE {
        let there = folder.join(part.name).join("mod.rs").exists() || folder.join(format!("{}.rs", part.name)).exists();
        assert!(there, "`{}` has a row in the table but is not in src", part.name);
    }
}

/// The core's imports go downwards only: no cycle can be written.
#[test]
fn the_table_has_no_cycle() {
    fn reach(name: &str, path: &mut Vec<&'static str>) {
        let Some(part) = TABLE.iter().find(|part| part.name == name && part.core) else { return };
        assert!(!path.contains(&part.name), "a cycle: {} -> {}", path.join(" -> "), part.name);
        path.push(part.name);
        let next: Vec<&str> = match &part.may {
            May::All(parts) => parts.to_vec(),
            May::Some(parts) => parts.iter().map(|(name, _)| *name).collect(),
        };
        for name in next {
            assert!(
                TABLE.iter().any(|part| part.name == name && part.core),
                "`{}` may import the shell's `{name}`",
                part.name
            );
            reach(name, path);
        }
        path.pop();
    }
    TABLE.iter().for_each(|part| reach(part.name, &mut Vec::new()));
}

mod the_checker_can_fail {
    use super::{FILE_LINES, FUNCTION_LINES, check, check_file, test_files};

    /// The one finding in `text`, as "line: what".
    fn one(file: &str, text: &str) -> String {
        let findings = check(file, text);
        assert_eq!(findings.len(), 1, "{file}: {findings:?}");
        format!("{}: {}", findings[0].line, findings[0].what)
    }

    fn none(file: &str, text: &str) {
        assert_eq!(check(file, text), []);
    }

    #[test]
    fn imports() {
        assert_eq!(one("rtp/packet.rs", "use crate::sip::Uri;"), "1: `rtp` imports `sip`; it may import nothing");
        assert_eq!(
            one("media/bridge.rs", "\nuse crate::{codec::Codec, call::Cause};"),
            "2: `media` imports `call`; it may import codec, rtp, sdp, webrtc"
        );
        // Without `use`, in a type, in an expression, in a macro, nested, over `super`.
        for text in [
            "fn f(call: &crate::call::Call) {}",
            "fn f() { let x = crate::call::new(); }",
            "fn f() { println!(\"{}\", crate::call::NAME); }",
            "fn f() { vec![Some(crate::call::NAME)]; }",
            "mod inner { use super::super::super::call::Call; }",
            "use super::super::call::{self};",
        ] {
            assert!(one("media/bridge.rs", text).contains("`media` imports `call`"), "{text}");
        }
        assert!(one("media/mixer.rs", "use super::super::super::x;").contains("out of the crate"));
        assert!(one("media/mixer.rs", "use crate::*;").contains("whole crate"));
        none(
            "media/bridge.rs",
            "use crate::codec::Codec; use super::meter::Meter; use super::super::rtp::Packet; use crate::media::Leg;",
        );
        none("media/bridge.rs", "#[cfg(test)] mod tests { use crate::call::Call; }");
        none("media/bridge.rs", "fn f() { matches!(x, A { ringback: true, call: 1 }); }");
        none("gateway/driver.rs", "use crate::{call, media, switch::Switch};");
    }

    #[test]
    fn single_names() {
        assert!(one("sdp/plan.rs", "use crate::codec::opus::Decoder;").contains("may import Codec"));
        assert!(one("sdp/plan.rs", "use crate::codec::*;").contains("`codec::*`"));
        assert!(one("sdp/plan.rs", "use crate::codec;").contains("`codec::*`"));
        assert!(one("dialplan/plan.rs", "use crate::sip::{Uri, Request};").contains("`sip::Request`"));
        assert!(one("dialplan/plan.rs", "use crate::rtp::Packet;").contains("row does not name"));
        none("sdp/plan.rs", "use crate::codec::Codec; use crate::codec::Codec as Name;");
        none("dialplan/plan.rs", "use crate::sip::uri::{Host, Uri};");
    }

    #[test]
    fn crates() {
        assert!(
            one("switch/mod.rs", &format!("{DENY}\nfn f() {{ tokio::task::yield_now(); }}"))
                .contains("`tokio` belongs to")
        );
        assert!(one("media/bridge.rs", "use dimpl::Dtls;").contains("`dimpl` belongs to webrtc"));
        assert!(one("gateway/mod.rs", "fn f() -> anyhow::Result<()> { Ok(()) }").contains("`anyhow` belongs to main"));
        none("main.rs", "fn main() -> anyhow::Result<()> { Ok(()) }");
        none("webrtc/dtls.rs", "use dimpl::Dtls;");
        none("sdp/answer.rs", "fn f(opus: u8) { println!(\"{}\", opus); }");
    }

    const DENY: &str = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";

    #[test]
    fn bans_of_the_core() {
        none("rtp/mod.rs", DENY);
        assert!(one("rtp/mod.rs", "#![deny(clippy::disallowed_methods)]").contains("disallowed_types"));
        assert!(
            one("rtp/mod.rs", "#![deny(clippy::disallowed_methods)]\n#![warn(clippy::disallowed_types)]")
                .contains("disallowed_types")
        );
        none("net/mod.rs", "");
        none("rtp/packet.rs", "");
        assert!(one("rtp/packet.rs", "#[allow(clippy::disallowed_methods)] fn f() {}").contains("no exception"));
        none("rtp/packet.rs", "#[cfg(test)] mod tests { #![allow(clippy::disallowed_methods)] }");
        none("worker/pool.rs", "#[allow(clippy::disallowed_methods)] fn f() {}");
    }

    #[test]
    fn locks() {
        for text in [
            "use std::sync::Mutex;",
            "use std::sync::{Arc, Condvar};",
            "use std::sync::Mutex as Cell;",
            "struct A(std::sync::RwLock<u8>);",
            "static A: std::sync::OnceLock<u8> = std::sync::OnceLock::new();",
            "use parking_lot::Once as Cell;",
            "fn f() { vec![tokio::sync::Semaphore::new(1)]; }",
        ] {
            for file in ["worker/engine.rs", "media/leg.rs", "rtp/packet.rs", "codec/opus.rs", "webrtc/dtls.rs"] {
                let found = check(file, text);
                assert!(found.iter().any(|finding| finding.what.contains("is a lock")), "{file}: {text}: {found:?}");
            }
            assert!(!check("gateway/a.rs", text).iter().any(|finding| finding.what.contains("is a lock")), "{text}");
        }
        assert!(one("worker/mod.rs", "use std::sync::Mutex;").contains("`Mutex` is a lock"));
        none("worker/mod.rs", "struct A(std::sync::RwLock<u8>);");
        none("worker/engine.rs", "use std::sync::atomic::AtomicU64; use std::sync::Arc;");
        none("rtp/packet.rs", "#[cfg(test)] mod tests { use std::sync::OnceLock; }");
    }

    #[test]
    fn sizes() {
        let lines = |count: usize| "    let _ = 1;\n".repeat(count);
        // `fn f() {` and `}` count.
        none("rtp/a.rs", &format!("fn f() {{\n{}}}\n", lines(FUNCTION_LINES - 3)));
        let long = one("rtp/a.rs", &format!("/// Long.\nfn f() {{\n{}}}\n", lines(FUNCTION_LINES - 2)));
        assert!(long.ends_with("`f` has 100 lines of code; a function has fewer than 100"), "{long}");
        assert!(one("rtp/a.rs", &format!("impl A {{ fn f() {{\n{}}} }}\n", lines(FUNCTION_LINES))).contains("`f`"));
        // Comments and blank lines do not count.
        let padded =
            format!("fn f() {{\n{}{}}}\n", lines(FUNCTION_LINES - 3), "    // why\n\n    /* how\n so */\n".repeat(50));
        none("rtp/a.rs", &padded);

        let items = |count: usize| "/// A constant.\nconst A: u8 = 1;\n\n".repeat(count);
        none("rtp/a.rs", &items(FILE_LINES - 1));
        assert!(one("rtp/a.rs", &items(FILE_LINES)).contains("800 lines of code"));
        none("rtp/a.rs", &format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", items(FILE_LINES - 10), items(FILE_LINES)));
        assert_eq!(check_file("rtp/tests.rs", &items(2 * FILE_LINES), true), []);
    }

    #[test]
    fn habits() {
        for text in [
            "fn f() { let (tx, rx) = tokio::sync::mpsc::unbounded_channel(); }",
            "fn f() { let (tx, rx) = std::sync::mpsc::channel(); }",
            "fn f() { let (tx, rx) = channel::<u8>(); }",
        ] {
            assert!(one("gateway/a.rs", text).contains("without a bound"), "{text}");
        }
        none("gateway/a.rs", "fn f() { mpsc::channel(8); oneshot::channel(); std::sync::mpsc::sync_channel(8); }");

        for text in [
            "fn f() { tokio::spawn(g()); }",
            "fn f() { let _ = tokio::spawn(g()); }",
            "fn f() { std::thread::spawn(g); }",
        ] {
            assert!(one("gateway/a.rs", text).contains("is detached"), "{text}");
        }
        none("gateway/a.rs", "fn f() { let task = tokio::spawn(g()); tasks.spawn(g()); Worker::start(); }");

        assert!(one("gateway/a.rs", "impl Drop for Call { fn drop(&mut self) {} }").contains("`impl Drop`"));
        assert!(one("call/a.rs", "impl std::ops::Drop for Call { fn drop(&mut self) {} }").contains("`impl Drop`"));
    }

    #[test]
    fn numbers_in_the_log() {
        for text in [
            "fn f() { tracing::info!(call = %id, user, \"x\"); }",
            "fn f() { tracing::warn!(user = ?claimed, \"x\"); }",
            "fn f() { tracing::debug!(%to, \"x\"); }",
            "fn f() { tracing::debug!(number = record.number, \"x\"); }",
        ] {
            assert!(one("call/a.rs", text).contains("log it as `Shown`"), "{text}");
        }
        none("call/a.rs", "fn f() { tracing::info!(call = %id, user = %cx.settings.shown(&user), \"to a user\"); }");
        none("call/a.rs", "fn f() { tracing::info!(user = ?Shown::masked(user), remote = %flow.remote); }");
    }

    #[test]
    fn files() {
        let text = "mod a; #[cfg(test)] mod tests; #[cfg(test)] mod inner {}";
        assert_eq!(test_files("sip/ua/mod.rs", text), ["sip/ua/tests.rs", "sip/ua/tests/"]);
        assert_eq!(test_files("sip/uri.rs", text), ["sip/uri/tests.rs", "sip/uri/tests/"]);
        assert_eq!(test_files("lib.rs", text), ["tests.rs", "tests/"]);
        assert_eq!(
            test_files("sip/uri.rs", "#[cfg(test)] #[path = \"uri_tests.rs\"] mod tests;"),
            ["sip/uri_tests.rs"]
        );
        assert!(one("billing/mod.rs", "").contains("`billing` has no row"));
        assert!(one("rtp/a.rs", "fn f( {").contains("is not Rust"));
    }
}
