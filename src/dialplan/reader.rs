//! Reading TOML so that each mistake is told with its file and line, and all of them at once.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::plan::PlanError;

/// A text and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub value: String,
    /// Offset in the file.
    pub at: usize,
}

/// A table and where it begins.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    /// Offset in the file.
    pub at: usize,
}

/// One file, and what was found wrong in it.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    pub errors: Vec<PlanError>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Reader { file, text, errors: Vec::new() }
    }

    /// The line of an offset, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
    }

    /// Notes a mistake.
    pub fn error(&mut self, at: usize, text: impl Into<String>) {
        let line = self.line(at);
        self.errors.push(PlanError { file: self.file.to_owned(), line, text: text.into() });
    }

    /// Notes keys that are not `known`; `later` are those that mean something and cannot be honoured yet.
    pub fn check_keys(&mut self, section: Section<'_>, what: &str, known: &[&str], later: &[&str]) {
        for (key, _) in section.table.iter() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            if later.contains(&name) {
                self.error(at, format!("`{name}` in {what} is not supported yet; leave it out"));
            } else if !known.contains(&name) {
                self.error(at, format!("unknown key `{name}` in {what}; known are {}", known.join(", ")));
            }
        }
    }

    /// A value and where it stands.
    fn value<'s>(section: Section<'s>, key: &str) -> Option<(&'s DeValue<'s>, usize)> {
        let (_, value) = section.table.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
        Some((value.get_ref(), value.span().start))
    }

    /// A text that may be absent.
    pub fn string(&mut self, section: Section<'_>, key: &str) -> Option<Text> {
        let (value, at) = Self::value(section, key)?;
        if let DeValue::String(text) = value {
            return Some(Text { value: text.to_string(), at });
        }
        self.error(at, format!("`{key}` is a text, such as {key} = \"...\""));
        None
    }

    /// A text or a list of texts; empty when absent.
    pub fn strings(&mut self, section: Section<'_>, key: &str) -> Vec<Text> {
        let Some((value, at)) = Self::value(section, key) else { return Vec::new() };
        match value {
            DeValue::String(text) => vec![Text { value: text.to_string(), at }],
            DeValue::Array(items) => {
                let mut texts = Vec::new();
                for item in items {
                    match item.get_ref() {
                        DeValue::String(text) => texts.push(Text { value: text.to_string(), at: item.span().start }),
                        _ => self.error(item.span().start, format!("`{key}` is a list of texts")),
                    }
                }
                if items.is_empty() {
                    self.error(at, format!("`{key}` is an empty list"));
                }
                texts
            }
            _ => {
                self.error(at, format!("`{key}` is a text or a list of texts"));
                Vec::new()
            }
        }
    }

    /// A whole number within limits.
    pub fn integer(&mut self, section: Section<'_>, key: &str, limits: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let (value, at) = Self::value(section, key)?;
        let number = match value {
            DeValue::Integer(digits) => u32::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| limits.contains(number));
        if number.is_none() {
            self.error(at, format!("`{key}` is a whole number, {} to {}", limits.start(), limits.end()));
        }
        number
    }

    /// A length of time: `90s`, `20m`, `2h`, from a second to a day.
    pub fn duration(&mut self, section: Section<'_>, key: &str) -> Option<Duration> {
        let text = self.string(section, key)?;
        let time = duration(&text.value);
        if time.is_none() {
            self.error(text.at, format!("`{key}` is a length of time, such as 25s, 20m or 2h, from 1s to 24h"));
        }
        time
    }

    /// A length of time that may be short: `300ms`, `2s`, up to `most`.
    pub fn short_duration(&mut self, section: Section<'_>, key: &str, most: Duration) -> Option<Duration> {
        let text = self.string(section, key)?;
        let time = match text.value.strip_suffix("ms") {
            Some(number) if number.len() <= 5 && number.bytes().all(|b| b.is_ascii_digit()) => {
                number.parse().ok().map(Duration::from_millis)
            }
            Some(_) => None,
            None => duration(&text.value),
        };
        let time = time.filter(|time| !time.is_zero() && *time <= most);
        if time.is_none() {
            let most = most.as_secs();
            self.error(text.at, format!("`{key}` is a length of time, such as 300ms or 2s, and at most {most}s"));
        }
        time
    }

    /// Yes or no.
    pub fn boolean(&mut self, section: Section<'_>, key: &str) -> Option<bool> {
        let (value, at) = Self::value(section, key)?;
        if let DeValue::Boolean(on) = value {
            return Some(*on);
        }
        self.error(at, format!("`{key}` is true or false"));
        None
    }

    /// A table where a text may stand too; nothing where it is a text or absent.
    pub fn section_or_string<'s>(&mut self, section: Section<'s>, key: &str) -> Option<Section<'s>> {
        match Self::value(section, key) {
            Some((DeValue::Table(table), at)) => Some(Section { table, at }),
            _ => None,
        }
    }

    /// A table or a list of tables; empty when absent.
    pub fn section_or_list<'s>(&mut self, section: Section<'s>, key: &str) -> Vec<Section<'s>> {
        match Self::value(section, key) {
            Some((DeValue::Array(_), _)) => self.sections(section, key),
            _ => self.section(section, key).into_iter().collect(),
        }
    }

    /// Whether a list is there and empty.
    pub fn is_empty_list(&self, section: Section<'_>, key: &str) -> bool {
        matches!(Self::value(section, key), Some((DeValue::Array(items), _)) if items.is_empty())
    }

    /// The tables among the values of a table.
    pub fn tables<'s>(&mut self, section: Section<'s>) -> Vec<(Text, Section<'s>)> {
        let tables = section.table.iter().filter_map(|(key, value)| match value.get_ref() {
            DeValue::Table(table) => {
                let name = Text { value: key.get_ref().to_string(), at: key.span().start };
                Some((name, Section { table, at: value.span().start }))
            }
            _ => None,
        });
        tables.collect()
    }

    /// A table that may be absent.
    pub fn section<'s>(&mut self, section: Section<'s>, key: &str) -> Option<Section<'s>> {
        let (value, at) = Self::value(section, key)?;
        if let DeValue::Table(table) = value {
            return Some(Section { table, at });
        }
        self.error(at, format!("`{key}` is a table, such as [{key}]"));
        None
    }

    /// A list of tables; empty when absent.
    pub fn sections<'s>(&mut self, section: Section<'s>, key: &str) -> Vec<Section<'s>> {
        let Some((value, at)) = Self::value(section, key) else { return Vec::new() };
        let mut tables = Vec::new();
        let DeValue::Array(items) = value else {
            self.error(at, format!("`{key}` is a list of tables: write [[{key}]]"));
            return tables;
        };
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Section { table, at: item.span().start }),
                _ => self.error(item.span().start, format!("`{key}` is a list of tables: write [[{key}]]")),
            }
        }
        tables
    }

    /// A list of lists of texts or tables: `[["a"], [{ .. }, "b"]]`.
    pub fn lists<'s>(&mut self, section: Section<'s>, key: &str) -> Option<Vec<Vec<Item<'s>>>> {
        let (value, at) = Self::value(section, key)?;
        let wrong = format!("`{key}` is a list of lists, such as {key} = [[\"carrier-a\"], [\"carrier-b\"]]");
        let DeValue::Array(outer) = value else {
            self.error(at, wrong);
            return None;
        };
        let mut lists = Vec::new();
        for inner in outer {
            let DeValue::Array(items) = inner.get_ref() else {
                self.error(inner.span().start, wrong);
                return None;
            };
            let mut list = Vec::new();
            for item in items {
                let at = item.span().start;
                match item.get_ref() {
                    DeValue::String(text) => list.push(Item::Text(Text { value: text.to_string(), at })),
                    DeValue::Table(table) => list.push(Item::Table(Section { table, at })),
                    _ => self.error(at, wrong.clone()),
                }
            }
            lists.push(list);
        }
        if lists.is_empty() || lists.iter().any(Vec::is_empty) {
            self.error(at, format!("`{key}` has an empty list"));
        }
        Some(lists)
    }

    /// The names and tables of a table of tables, such as `[class.staff]`.
    pub fn named<'s>(&mut self, section: Section<'s>) -> Vec<(Text, Section<'s>)> {
        let mut named = Vec::new();
        for (key, value) in section.table.iter() {
            let name = Text { value: key.get_ref().to_string(), at: key.span().start };
            match value.get_ref() {
                DeValue::Table(table) => named.push((name, Section { table, at: value.span().start })),
                _ => self.error(name.at, format!("`{}` is a table", name.value)),
            }
        }
        named
    }

    /// Whether a key is there.
    pub fn has(section: Section<'_>, key: &str) -> bool {
        Self::value(section, key).is_some()
    }
}

/// An item of [`Reader::lists`].
pub(super) enum Item<'a> {
    Text(Text),
    Table(Section<'a>),
}

/// Parses a file and hands its root to `read`; a file that is not TOML gives that error alone.
pub(super) fn read_file(reader: &mut Reader<'_>, read: impl FnOnce(&mut Reader<'_>, Section<'_>)) {
    match DeTable::parse(reader.text) {
        Ok(root) => read(reader, Section { table: root.get_ref(), at: root.span().start }),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.error(at, format!("not TOML: {}", error.message()));
        }
    }
}

fn duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return None,
    };
    let number = text.get(..text.len() - 1)?;
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in [("1s", Some(1)), ("90s", Some(90)), ("20m", Some(1_200)), ("24h", Some(86_400))] {
            assert_eq!(duration(text).map(|d| d.as_secs()), seconds, "{text}");
        }
        for text in ["", "s", "0s", "25h", "2d", "+2s", "-2s", "1.5h", "2 h", "99999999999999999999h", "20", "é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
