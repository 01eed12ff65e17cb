//! The lines by which the benchmark guest reports a measured section.

use anyhow::{Context, Result, bail};

/// One `@bench row` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestRow {
    /// The id of the section's marks.
    pub id: u64,
    pub name: String,
    /// Operations in the section.
    pub ops: u64,
    /// TSC ticks between the reads inside the marks.
    pub ticks: u64,
    /// Ticks of the same loop without the operation.
    pub empty: u64,
    /// The exits that the guest itself counted, where it can.
    pub exits: Option<u64>,
    /// Exits of the loop without the operation: those of its clock, where RDTSC exits.
    pub empty_exits: u64,
}

/// What the guest says on its console, line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestLine {
    Row(GuestRow),
    /// The last line, with the number of rows.
    Done(usize),
    /// Something went wrong.
    Fail(String),
}

/// Reads one line; `None` for lines that are not for us.
pub fn parse(line: &str) -> Option<Result<GuestLine>> {
    let rest = line.trim().strip_prefix("@bench ")?;
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match verb {
        "row" => row(rest).map(GuestLine::Row).with_context(|| format!("in the line {line:?}")),
        "done" => number(rest, "rows")
            .and_then(|rows| Ok(GuestLine::Done(usize::try_from(rows)?)))
            .with_context(|| format!("in the line {line:?}")),
        "fail" => Ok(GuestLine::Fail(rest.to_owned())),
        // Notes for people.
        _ => return None,
    })
}

fn row(text: &str) -> Result<GuestRow> {
    let row = GuestRow {
        id: number(text, "id")?,
        name: value(text, "name")?.to_owned(),
        ops: number(text, "ops")?,
        ticks: number(text, "ticks")?,
        empty: number(text, "empty")?,
        exits: match value(text, "exits")? {
            "-" => None,
            _ => Some(number(text, "exits")?),
        },
        empty_exits: match value(text, "empty-exits") {
            Ok(_) => number(text, "empty-exits")?,
            Err(_) => 0,
        },
    };
    if row.ops == 0 {
        bail!("a row without operations");
    }
    Ok(row)
}

impl GuestRow {
    /// Ticks of an operation, without those of the loop.
    pub fn ticks_per_op(&self) -> f64 {
        (self.ticks as f64 - self.empty as f64) / self.ops as f64
    }

    /// The exits that the guest counted.
    pub fn counted(&self) -> Result<u64> {
        self.exits.with_context(|| format!("{} counts no exits", self.name))
    }
}

fn value<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    let mut pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(name, _)| *name == key);
    found.map(|(_, value)| value).with_context(|| format!("{key}= is missing"))
}

fn number(text: &str, key: &str) -> Result<u64> {
    let value = value(text, key)?;
    value.parse().with_context(|| format!("{key}={value} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_whatever_stands_around_it() {
        let line =
            "@bench row id=3 name=cpuid ops=1000 ticks=98000 empty=3000 exits=1002 empty-exits=2\r";
        let row = GuestRow {
            id: 3,
            name: "cpuid".into(),
            ops: 1000,
            ticks: 98000,
            empty: 3000,
            exits: Some(1002),
            empty_exits: 2,
        };
        assert_eq!(parse(line).unwrap().unwrap(), GuestLine::Row(row.clone()));
        let line = line.replace("exits=1002 empty-exits=2", "exits=-");
        let GuestLine::Row(other) = parse(&line).unwrap().unwrap() else { panic!() };
        assert_eq!(other, GuestRow { exits: None, empty_exits: 0, ..row });
    }

    #[test]
    fn other_lines_are_told_apart() {
        assert!(parse("booting").is_none());
        assert!(parse("@bench note hello").is_none());
        assert_eq!(parse("@bench done rows=16").unwrap().unwrap(), GuestLine::Done(16));
        let fail = parse("@bench fail no timer").unwrap().unwrap();
        assert_eq!(fail, GuestLine::Fail("no timer".into()));
    }

    #[test]
    fn a_damaged_row_is_an_error_that_shows_the_line() {
        for line in [
            "@bench row id=3 name=cpuid ops=1000 ticks=98000 empty=3000",
            "@bench row id=3 name=cpuid ops=0 ticks=98000 empty=3000 exits=1",
            "@bench row id=x name=cpuid ops=1 ticks=98000 empty=3000 exits=1",
            "@bench done rows=many",
        ] {
            let error = format!("{:#}", parse(line).unwrap().unwrap_err());
            assert!(error.contains(line), "{error}");
        }
    }
}
