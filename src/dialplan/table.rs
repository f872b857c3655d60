//! Prefix tables: half a million beginnings of numbers, with names in 24 MB or with two prices each in 40.
//!
//! A table is a trie in one array: a node is twelve bytes and its children stand side by side, so that a look-up is at most
//! fifteen steps and allocates nothing. It is built once from a CSV file and never changed.

use std::collections::BTreeMap;

use super::plan::PlanError;

/// The most rows of a table.
const MOST_ROWS: usize = 2_000_000;
/// The most digits of a prefix (ITU-T E.164).
const MOST_DIGITS: usize = 15;
/// How many mistakes of one table are told.
const MOST_ERRORS: usize = 10;
/// No value.
const NONE: u32 = u32::MAX;
/// Prices are kept in millionths.
const PRICE_DIGITS: usize = 6;

/// A price for one minute, in millionths of whatever the table counts in.
pub(super) type Price = u64;

/// A trunk's price for a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Which of [`PrefixTable::trunks`].
    pub trunk: u16,
    pub price: Price,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Which digits go on from here.
    digits: u16,
    /// Which of the prefixes ends here.
    value: u32,
    /// The first of its children; the others follow in the order of their digits.
    children: u32,
}

/// What the columns of a table are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// `prefix` and, if wanted, `name`.
    #[default]
    Names,
    /// `prefix`, `trunk` and `price`.
    Rates,
}

/// A table of prefixes.
#[derive(Debug, Default)]
pub(super) struct PrefixTable {
    /// Its name, as the plan has it.
    pub name: String,
    nodes: Box<[Node]>,
    /// By prefix: its name, as a place in `names`.
    named: Box<[u32]>,
    names: Box<[String]>,
    /// By prefix: where its rates begin; one more at the end.
    rates_from: Box<[u32]>,
    rates: Box<[Rate]>,
    /// The trunks that have rates.
    pub trunks: Box<[String]>,
}

/// A prefix's digits in one number, left-aligned, four bits each and one more than the digit: it sorts as the text does.
type Key = u64;

fn key_of(prefix: &str) -> Option<Key> {
    let digits = prefix.strip_prefix('+').unwrap_or(prefix);
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let packed = digits.bytes().fold(0, |key: Key, digit| key << 4 | Key::from(digit - b'0' + 1));
    Some(packed << (4 * (16 - digits.len())))
}

/// The digit at a depth, if the key is so long.
fn digit_at(key: Key, depth: u32) -> Option<u16> {
    let nibble = (key << (4 * depth)) >> 60;
    u16::try_from(nibble).ok()?.checked_sub(1)
}

impl PrefixTable {
    /// Reads a table from CSV. The first line names the columns; the separator is a comma, a semicolon or a tab.
    pub fn read(
        name: &str,
        file: &str,
        text: &str,
        kind: Kind,
        known: &[String],
    ) -> Result<PrefixTable, Vec<PlanError>> {
        Rows { file, kind, known, ..Rows::default() }.read(name, text)
    }

    /// How many prefixes it has.
    pub fn len(&self) -> usize {
        self.nodes.iter().filter(|node| node.value != NONE).count()
    }

    /// The prefixes that a number begins with, shortest first: how many digits, and which one.
    fn matches(&self, number: &str) -> impl Iterator<Item = (usize, u32)> {
        let digits = number.strip_prefix('+').unwrap_or_default().bytes();
        let mut node = self.nodes.first();
        digits.enumerate().map_while(move |(at, digit)| {
            let here = node?;
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            let bit = 1_u16 << digit;
            if here.digits & bit == 0 {
                return None;
            }
            let before = (here.digits & (bit - 1)).count_ones();
            let child = self.nodes.get(usize::try_from(here.children + before).ok()?)?;
            node = Some(child);
            Some((at + 1, child.value))
        })
    }

    /// The longest prefix of a number that the table has: its digits, and its name if it has one.
    pub fn longest<'a>(&'a self, number: &'a str) -> Option<(&'a str, Option<&'a str>)> {
        let (digits, value) = self.matches(number).filter(|(_, value)| *value != NONE).last()?;
        let name =
            self.named.get(usize::try_from(value).ok()?).and_then(|at| self.names.get(usize::try_from(*at).ok()?));
        Some((number.get(..=digits)?, name.map(String::as_str)))
    }

    /// What each trunk wants for a number, by its own longest prefix, cheapest first.
    pub fn rates(&self, number: &str) -> Vec<Rate> {
        let mut found: Vec<Rate> = Vec::new();
        let ends: Vec<u32> = self.matches(number).map(|(_, value)| value).filter(|value| *value != NONE).collect();
        for value in ends.into_iter().rev() {
            for rate in self.rates_of(value) {
                if found.iter().all(|known| known.trunk != rate.trunk) {
                    found.push(*rate);
                }
            }
        }
        found.sort_by_key(|rate| rate.price);
        found
    }

    fn rates_of(&self, value: u32) -> &[Rate] {
        let at = |index: u32| self.rates_from.get(usize::try_from(index).ok()?).copied();
        let range = at(value).zip(at(value.saturating_add(1)));
        let Some((from, until)) = range else { return &[] };
        self.rates.get(from as usize..until as usize).unwrap_or_default()
    }

    /// Whether every number of the table begins with `prefix`.
    pub fn all_begin_with(&self, prefix: &str) -> bool {
        let Some(digits) = prefix.strip_prefix('+') else { return false };
        let mut node = self.nodes.first();
        for digit in digits.bytes() {
            let Some(here) = node else { return false };
            let only = digit.checked_sub(b'0').filter(|digit| *digit < 10).map(|digit| 1_u16 << digit);
            if here.value != NONE || Some(here.digits) != only {
                return false;
            }
            node = self.nodes.get(here.children as usize);
        }
        node.is_some()
    }

    /// The memory it takes, bytes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.nodes)
            + size_of_val(&*self.named)
            + size_of_val(&*self.rates_from)
            + size_of_val(&*self.rates)
            + self.names.iter().map(|name| size_of::<String>() + name.capacity()).sum::<usize>()
    }
}

/// A table while it is read.
#[derive(Default)]
struct Rows<'a> {
    file: &'a str,
    kind: Kind,
    known: &'a [String],
    errors: Vec<PlanError>,
    more_errors: usize,
    rows: Vec<Row>,
    names: Vec<String>,
    places: BTreeMap<String, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    key: Key,
    line: u32,
    /// Of names and trunks: the place in `names`.
    word: u32,
    price: Price,
}

/// Where the columns are.
struct Columns {
    separator: char,
    prefix: usize,
    word: Option<usize>,
    price: Option<usize>,
}

impl Rows<'_> {
    fn read(mut self, name: &str, text: &str) -> Result<PrefixTable, Vec<PlanError>> {
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let header = lines.next().map(|(_, line)| line).unwrap_or_default();
        match self.columns(header) {
            Ok(columns) => lines.for_each(|(at, line)| self.row(&columns, at + 1, line)),
            Err(why) => self.error(1, why),
        }
        if self.rows.is_empty() && self.errors.is_empty() {
            self.error(1, "there is no prefix in it".to_owned());
        }
        if self.rows.len() > MOST_ROWS {
            self.error(1, format!("it has more than {MOST_ROWS} rows"));
        }
        self.rows.sort_by_key(|row| (row.key, row.line));
        self.repeated();
        if self.more_errors > 0 {
            let text = format!("and {} more mistakes", self.more_errors);
            self.errors.push(PlanError { file: self.file.to_owned(), line: 0, text });
        }
        if self.errors.is_empty() { Ok(self.table(name)) } else { Err(self.errors) }
    }

    fn error(&mut self, line: usize, text: String) {
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(PlanError { file: self.file.to_owned(), line, text });
        } else {
            self.more_errors += 1;
        }
    }

    fn columns(&self, header: &str) -> Result<Columns, String> {
        let separator = [',', ';', '\t'].into_iter().find(|separator| header.contains(*separator)).unwrap_or(',');
        let names: Vec<String> =
            fields(header, separator).iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let at = |wanted: &str| names.iter().position(|name| name == wanted);
        let (word, wants) = match self.kind {
            Kind::Names => (at("name"), "`prefix` and, if wanted, `name`"),
            Kind::Rates => (at("trunk"), "`prefix`, `trunk` and `price`"),
        };
        let wrong = || format!("the first line names the columns: {wants}");
        let columns = Columns { separator, prefix: at("prefix").ok_or_else(wrong)?, word, price: at("price") };
        if self.kind == Kind::Rates && (columns.word.is_none() || columns.price.is_none()) {
            return Err(wrong());
        }
        Ok(columns)
    }

    fn row(&mut self, columns: &Columns, line: usize, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        let fields = fields(text, columns.separator);
        let field = |at: usize| fields.get(at).map(|field| field.trim()).unwrap_or_default();
        let Some(key) = key_of(field(columns.prefix)) else {
            return self
                .error(line, format!("{:?} is no prefix: 1 to 15 digits, such as +4420", field(columns.prefix)));
        };
        let word = columns.word.map(field).filter(|word| !word.is_empty());
        let price = match (self.kind, columns.price) {
            (Kind::Rates, Some(at)) => match price(field(at)) {
                Some(price) => price,
                None => return self.error(line, format!("{:?} is no price such as 0.011", field(at))),
            },
            _ => 0,
        };
        if self.kind == Kind::Rates && !word.is_some_and(|trunk| self.known.iter().any(|known| known == trunk)) {
            let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
            let trunk = word.unwrap_or_default();
            return self.error(line, format!("there is no trunk `{trunk}`; the configuration has: {known}"));
        }
        let word = word.map_or(NONE, |word| self.place(word));
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        self.rows.push(Row { key, line, word, price });
    }

    fn place(&mut self, word: &str) -> u32 {
        if let Some(at) = self.places.get(word) {
            return *at;
        }
        let at = u32::try_from(self.names.len()).unwrap_or(NONE);
        self.names.push(word.to_owned());
        self.places.insert(word.to_owned(), at);
        at
    }

    /// A prefix stands once, a prefix of rates once for each trunk.
    fn repeated(&mut self) {
        let mut found = Vec::new();
        let same = |a: &Row, b: &Row| a.key == b.key && (self.kind == Kind::Names || a.word == b.word);
        for group in self.rows.chunk_by(|a, b| a.key == b.key) {
            for (at, row) in group.iter().enumerate() {
                if let Some(first) = group.iter().take(at).find(|first| same(first, row)) {
                    found.push((row.line, first.line));
                }
            }
        }
        for (line, first) in found {
            self.error(line as usize, format!("this prefix stands in line {first} already"));
        }
    }

    fn table(self, name: &str) -> PrefixTable {
        let (mut named, mut rates_from, mut rates, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for group in self.rows.chunk_by(|a, b| a.key == b.key) {
            keys.extend(group.first().map(|row| row.key));
            match self.kind {
                Kind::Names => named.extend(group.first().map(|row| row.word)),
                Kind::Rates => {
                    rates_from.push(u32::try_from(rates.len()).unwrap_or(NONE));
                    let rate =
                        |row: &Row| Rate { trunk: u16::try_from(row.word).unwrap_or(u16::MAX), price: row.price };
                    rates.extend(group.iter().map(rate));
                }
            }
        }
        rates_from.push(u32::try_from(rates.len()).unwrap_or(NONE));
        let (names, trunks) = match self.kind {
            Kind::Names => (self.names, Vec::new()),
            Kind::Rates => (Vec::new(), self.names),
        };
        PrefixTable {
            name: name.to_owned(),
            nodes: nodes(&keys).into_boxed_slice(),
            named: named.into_boxed_slice(),
            names: names.into_boxed_slice(),
            rates_from: rates_from.into_boxed_slice(),
            rates: rates.into_boxed_slice(),
            trunks: trunks.into_boxed_slice(),
        }
    }
}

/// The trie of sorted keys that stand once each, breadth first.
fn nodes(keys: &[Key]) -> Vec<Node> {
    let mut nodes = vec![Node { digits: 0, value: NONE, children: 0 }];
    // The keys below each node of the present depth.
    let mut level: Vec<(usize, std::ops::Range<usize>)> = vec![(0, 0..keys.len())];
    let mut depth = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        for (at, mut range) in std::mem::take(&mut level) {
            let first_child = u32::try_from(nodes.len()).unwrap_or(NONE);
            let (mut digits, mut value) = (0_u16, NONE);
            if range.start < range.end && keys.get(range.start).is_some_and(|key| digit_at(*key, depth).is_none()) {
                value = u32::try_from(range.start).unwrap_or(NONE);
                range.start += 1;
            }
            while let Some(digit) = keys.get(range.clone()).and_then(|keys| digit_at(*keys.first()?, depth)) {
                let below = keys.get(range.clone()).unwrap_or_default();
                let many = below.partition_point(|key| digit_at(*key, depth).is_some_and(|other| other <= digit));
                digits |= 1 << digit;
                next.push((nodes.len(), range.start..range.start + many));
                nodes.push(Node { digits: 0, value: NONE, children: 0 });
                range.start += many;
            }
            if let Some(node) = nodes.get_mut(at) {
                *node = Node { digits, value, children: first_child };
            }
        }
        level = next;
        depth += 1;
    }
    nodes
}

/// The fields of a line; one in double quotes may have separators in it, and `""` for a quote.
fn fields(line: &str, separator: char) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            letter if letter == separator && !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    fields.push(field);
    fields
}

/// `0.011` in millionths.
pub(super) fn price(text: &str) -> Option<Price> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > PRICE_DIGITS || !digits(whole) || !digits(part) {
        return None;
    }
    let part: Price = format!("{part:0<PRICE_DIGITS$}").parse().ok()?;
    Some(whole.parse::<Price>().ok()? * 1_000_000 + part)
}

/// A price as people write it.
pub(super) fn price_text(price: Price) -> String {
    let text = format!("{}.{:06}", price / 1_000_000, price % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn read(kind: Kind, text: &str) -> Result<PrefixTable, Vec<String>> {
        let known = ["east".to_owned(), "west".to_owned()];
        PrefixTable::read("t.csv", "t.csv", text, kind, &known)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table =
            read(Kind::Names, "prefix,name\n+1,\"North, \"\"America\"\"\"\n1416,Toronto\n+14,\n+44,UK\n").unwrap();
        assert_eq!(table.len(), 4);
        for (number, expected) in [
            ("+14165550100", Some(("+1416", Some("Toronto")))),
            ("+14155550100", Some(("+14", None))),
            ("+12", Some(("+1", Some("North, \"America\"")))),
            ("+442079460000", Some(("+44", Some("UK")))),
            ("+4", None),
            ("+33", None),
            ("1416", None),
            ("", None),
            ("+*", None),
        ] {
            assert_eq!(table.longest(number), expected, "{number}");
        }
        assert!(!table.all_begin_with("+1") && table.all_begin_with("+"));
        let canada = read(Kind::Names, "prefix\n+1416\n+1604\n").unwrap();
        assert!(canada.all_begin_with("+1") && !canada.all_begin_with("+14") && !canada.all_begin_with("+2"));
    }

    #[test]
    fn each_trunk_has_its_own_longest_prefix_and_the_cheapest_is_first() {
        let table =
            read(Kind::Rates, "prefix;trunk;price\n+44;east;0.011\n+44;west;0.014\n+447;west;0.09\n+4479;west;0.01\n")
                .unwrap();
        let rates = |number| {
            let rates = table.rates(number);
            rates
                .iter()
                .map(|rate| (table.trunks[usize::from(rate.trunk)].as_str(), price_text(rate.price)))
                .collect::<Vec<_>>()
        };
        assert_eq!(rates("+442079460999"), [("east", "0.011".into()), ("west", "0.014".into())]);
        assert_eq!(rates("+447700900123"), [("east", "0.011".into()), ("west", "0.09".into())]);
        assert_eq!(rates("+447900900123"), [("west", "0.01".into()), ("east", "0.011".into())]);
        assert_eq!(rates("+33"), []);
    }

    #[test]
    fn mistakes_of_a_table_have_lines() {
        for (kind, text, expected) in [
            (Kind::Names, "", "t.csv:1: the first line names the columns: `prefix`"),
            (Kind::Names, "prefix\n", "t.csv:1: there is no prefix in it"),
            (Kind::Names, "prefix\n+44\n\n+4x\n", "t.csv:4: \"+4x\" is no prefix"),
            (Kind::Names, "prefix\n1234567890123456\n", "t.csv:2: \"1234567890123456\" is no prefix"),
            (Kind::Names, "prefix,name\n44,a\n+44,b\n", "t.csv:3: this prefix stands in line 2 already"),
            (Kind::Rates, "prefix,trunk\n", "t.csv:1: the first line names the columns"),
            (
                Kind::Rates,
                "prefix,trunk,price\n+44,north,1\n",
                "t.csv:2: there is no trunk `north`; the configuration has: east, west",
            ),
            (Kind::Rates, "prefix,trunk,price\n+44,east,1,2\n+44,west,-1\n", "t.csv:3: \"-1\" is no price"),
            (
                Kind::Rates,
                "prefix,trunk,price\n+44,east,1\n+44,west,1\n+44,east,2\n",
                "t.csv:4: this prefix stands in line 2",
            ),
        ] {
            let errors = read(kind, text).unwrap_err();
            assert!(errors[0].starts_with(expected), "{text:?}: {errors:?}");
        }
        let many = read(Kind::Names, &format!("prefix\n{}", "x\n".repeat(50))).unwrap_err();
        assert_eq!((many.len(), many[10].as_str()), (11, "t.csv: and 40 more mistakes"));
    }

    #[test]
    fn prices_are_exact() {
        for (text, micro) in
            [("0", Some(0)), ("0.011", Some(11_000)), ("12.5", Some(12_500_000)), ("1.", Some(1_000_000))]
        {
            assert_eq!(price(text), micro, "{text}");
        }
        for text in ["", ".5", "-1", "1,5", "0.0000001", "1e3", "9999999999"] {
            assert_eq!(price(text), None, "{text}");
        }
        assert_eq!((price_text(11_000), price_text(3_000_000)), ("0.011".into(), "3".into()));
    }

    /// Half a million prefixes of 5 to 11 digits, each with the prices of one or both of two trunks; none has an equal.
    fn many() -> BTreeMap<String, [Option<Price>; 2]> {
        let mut all = BTreeMap::new();
        let mut n: u64 = 0;
        while all.len() < 500_000 {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407); // Knuth's
            let digits = format!("{}{:010}", 1 + n % 9, (n >> 20) % 10_000_000_000);
            // Even prices are the east's.
            let (east, west) = (n >> 30 & 0x3ffe, n >> 40 & 0x3ffe | 1);
            let prices = [(n >> 60 != 0).then_some(east), (n >> 60 != 1).then_some(west)];
            all.insert(digits[..5 + (n >> 55) as usize % 7].to_owned(), prices);
        }
        all
    }

    /// Half a million prefixes are read, weigh no more than 48 bytes each (with two prices 80), and say what a search by
    /// each length says: the longest prefix, and each trunk's own longest one, the cheapest first.
    #[test]
    fn half_a_million_prefixes_are_right_and_small() {
        let all = many();
        let (mut names, mut rates) = ("prefix\n".to_owned(), "prefix,trunk,price\n".to_owned());
        for (prefix, prices) in &all {
            names += &format!("+{prefix}\n");
            for (trunk, price) in ["east", "west"].iter().zip(prices) {
                rates += &price.map(|price| format!("{prefix},{trunk},{}\n", price_text(price))).unwrap_or_default();
            }
        }
        let (names, rates) = (read(Kind::Names, &names).unwrap(), read(Kind::Rates, &rates).unwrap());
        assert_eq!((names.len(), rates.len()), (500_000, 500_000));
        assert!(names.memory() <= 500_000 * 48, "{} bytes", names.memory());
        assert!(rates.memory() <= 500_000 * 80, "{} bytes", rates.memory());
        let (mut found, mut undercut) = (0, 0);
        // Numbers that go on from a prefix, and numbers that are nobody's.
        let known = all.keys().step_by(501).map(|prefix| format!("+{prefix}0942417"));
        for number in known.chain((0..1_000).map(|n| format!("+{}", 9_999_999 - n * 9_973))) {
            let lengths = || (1..number.len()).rev().map(|length| &number[1..=length]);
            let longest = lengths().find(|prefix| all.contains_key(*prefix));
            assert_eq!(names.longest(&number).map(|(prefix, _)| &prefix[1..]), longest, "{number}");
            let price = |trunk: usize| lengths().find_map(|prefix| all.get(prefix)?[trunk]);
            let mut expected: Vec<(&str, Price)> = [("east", price(0)), ("west", price(1))]
                .iter()
                .filter_map(|(name, price)| Some((*name, (*price)?)))
                .collect();
            expected.sort_by_key(|(_, price)| *price);
            let told = rates.rates(&number);
            let told: Vec<(&str, Price)> =
                told.iter().map(|rate| (rates.trunks[usize::from(rate.trunk)].as_str(), rate.price)).collect();
            assert_eq!(told, expected, "{number}");
            found += usize::from(longest.is_some());
            undercut += usize::from(told.first().is_some_and(|(name, _)| *name == "west"));
        }
        assert!(found > 990 && found < 1_990 && undercut > 200, "{found} found, {undercut} times the west is cheaper");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The trie says what a search through all prefixes says.
        #[test]
        fn a_trie_is_a_list(prefixes in prop::collection::btree_set("[0-4]{1,6}", 1..60), number in "\\+[0-4]{1,8}") {
            let text = prefixes.iter().fold("prefix\n".to_owned(), |text, prefix| text + prefix + "\n");
            let table = read(Kind::Names, &text).unwrap();
            let longest = prefixes.iter().filter(|p| number[1..].starts_with(p.as_str())).max_by_key(|p| p.len());
            prop_assert_eq!(table.longest(&number).map(|(found, _)| &found[1..]), longest.map(String::as_str));
            prop_assert_eq!(table.len(), prefixes.len());
        }

        #[test]
        fn no_text_makes_a_table_panic(text in "(prefix,trunk,price\n)?[ -~\n\t]{0,80}", number in any::<String>()) {
            for kind in [Kind::Names, Kind::Rates] {
                if let Ok(table) = read(kind, &text) {
                    let _ = (table.longest(&number), table.rates(&number), table.memory());
                }
            }
        }
    }
}
