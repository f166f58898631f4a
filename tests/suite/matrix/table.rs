//! Which fault hits at which point, what must come of it, and which test shows that?
//!
//! The rows and points are those of the project's list of faults; `docs/MATRIX.md` is this table in
//! words, and a test compares the two.

use std::fmt::Write as _;
use std::path::Path;

/// Where a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    Append,
    Batch,
    Sync,
    Roll,
    Ack,
    Switch,
    Copy,
    Delete,
    Open,
    Inspect,
}

const POINTS: [(Point, &str); 10] = [
    (Point::Append, "append"),
    (Point::Batch, "batch"),
    (Point::Sync, "sync"),
    (Point::Roll, "segment roll"),
    (Point::Ack, "ack write"),
    (Point::Switch, "half switch"),
    (Point::Copy, "compaction copy"),
    (Point::Delete, "segment delete"),
    (Point::Open, "open, recovery"),
    (Point::Inspect, "inspect"),
];

/// What is known of a fault at a point.
#[derive(Clone, Copy)]
pub(crate) enum Cell {
    /// The outcome, the scenario's name, and the scenario.
    Tested(&'static str, &'static str, fn(Point)),
    /// The fault cannot hit there, and why.
    Never(&'static str),
}

/// A fault, and what it does at each point.
pub(crate) struct Row {
    pub(crate) number: usize,
    pub(crate) fault: &'static str,
    /// The test that runs the row's scenarios.
    pub(crate) test: &'static str,
    pub(crate) cells: Vec<(Point, Cell)>,
}

/// Runs the scenarios of a row, point by point.
pub(crate) fn run(row: &Row) {
    let tested = |(_, cell): &(Point, Cell)| matches!(cell, Cell::Tested(..));
    assert!(row.cells.iter().any(tested), "a test that cannot fail");
    for &(point, cell) in &row.cells {
        if let Cell::Tested(outcome, name, scenario) = cell {
            println!("row {}, {point:?}: {outcome} by {name}", row.number);
            scenario(point);
        }
    }
}

/// Makes a function `$all` that returns the rows, and a test for each of them.
macro_rules! rows {
    ($all:ident: $($number:literal $test:ident $fault:literal [ $($($point:ident)+ => $cell:tt;)+ ])+) => {
        pub(crate) fn $all() -> Vec<$crate::matrix::table::Row> {
            use $crate::matrix::table::{Point, Row, cell};
            vec![$(Row {
                number: $number,
                fault: $fault,
                test: stringify!($test),
                cells: vec![$($((Point::$point, cell!($cell)),)+)+],
            }),+]
        }
        $(
            #[test]
            fn $test() {
                let row = $all().into_iter().find(|row| row.number == $number).unwrap();
                $crate::matrix::table::run(&row);
            }
        )+
    };
}
pub(crate) use rows;

macro_rules! cell {
    (($outcome:literal $scenario:path)) => {
        $crate::matrix::table::Cell::Tested($outcome, stringify!($scenario), $scenario)
    };
    ((never $why:literal)) => {
        $crate::matrix::table::Cell::Never($why)
    };
}
pub(crate) use cell;

/// What the project's list of faults asks for, row by row; `-`: cannot occur.
const ASKED: [&str; 34] = [
    "K K K K K K K K IK =",
    "K K K K K K K K IK =",
    "- - - K - K K K K =",
    "E E X E E B B = O =",
    "E E - E E B B - I -",
    "= = = = = = = = = =",
    "E E - E E B B - I -",
    "EX EX - E Q B B - I -",
    "X X X X Q B B - O -",
    "- - - X - B B B O -",
    "- - - - - B B - O report",
    "- - - - - - K - - -",
    "wait wait wait wait wait B B B wait =",
    "- - - - - - - - CK report",
    "- - - - - - B - C report",
    "- - - - - - - - torn report",
    "- - - - - - - - C report",
    "- - - - - - - - C report",
    "- - - - - - - - K report",
    "- - - - - - B - C report",
    "- - - - - - B = C report",
    "- - - O - - B - O report",
    "= = = E = B B = O E",
    "E E - E E B B - O E",
    "E E X E Q B B B O =",
    "- - - = - = = - = -",
    "- - - - - - - - O =",
    "- - - - - - - - O =",
    "= = = = = = = = = =",
    "- - - O - O B never O report",
    "- - - - - - B - CO report",
    "- - - - - - - - O report",
    "E E = E Q B B = C report",
    "E E - E - - - - - -",
];

fn table() -> Vec<Row> {
    let mut rows = super::rows::all();
    rows.extend(super::more_rows::all());
    rows.sort_by_key(|row| row.number);
    rows
}

#[test]
fn every_fault_has_an_answer_at_every_point() {
    let table = table();

    let numbers: Vec<usize> = table.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=34).collect::<Vec<_>>());
    for row in &table {
        let mut points: Vec<Point> = row.cells.iter().map(|&(point, _)| point).collect();
        points.sort();
        let wanted: Vec<Point> = POINTS.iter().map(|&(point, _)| point).collect();
        assert_eq!(points, wanted, "row {}", row.number);
    }
}

#[test]
fn what_is_asked_for_is_ruled_out_by_the_design_alone() {
    for row in table() {
        let asked: Vec<&str> = ASKED[row.number - 1].split_whitespace().collect();
        for (&(point, _), asked) in POINTS.iter().zip(asked) {
            let cell = row.cells.iter().find(|(at, _)| *at == point).unwrap().1;
            if let (Cell::Never(why), true) = (cell, asked != "-") {
                assert!(why.starts_with("by design"), "row {} {point:?} asks for {asked}: {why}", row.number);
            }
        }
    }
}

#[test]
fn the_page_about_the_matrix_is_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MATRIX.md");
    let page = page(&table());

    if std::env::var("BACKLOG_BLESS").is_ok() {
        std::fs::write(&path, &page).unwrap();
    }

    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == page, "docs/MATRIX.md is stale: run this test with BACKLOG_BLESS=1, and look at it");
}

/// Writes the table in words.
fn page(table: &[Row]) -> String {
    let mut page = String::from(include_str!("page.md"));
    let mut reasons: Vec<String> = Vec::new();
    let headings = POINTS.map(|(_, heading)| heading).join(" | ");
    let _ = writeln!(page, "| # | fault | {headings} |\n|---|---|{}", "---|".repeat(POINTS.len()));
    let (mut tested, mut never) = (0, 0);
    for row in table {
        let _ = write!(page, "| {} | {} |", row.number, row.fault);
        for (point, _) in POINTS {
            let text = match row.cells.iter().find(|(at, _)| *at == point).unwrap().1 {
                Cell::Tested(outcome, ..) => {
                    tested += 1;
                    format!("**{outcome}**")
                }
                Cell::Never(why) => {
                    never += 1;
                    format!("– {}", footnote(&mut reasons, why.to_owned()))
                }
            };
            let _ = write!(page, " {text} |");
        }
        page.push('\n');
    }
    let _ = writeln!(page, "\n{tested} cells are tested, {never} cannot occur. None is open.");
    page.push_str("\n## Why not\n\n");
    for (index, reason) in reasons.iter().enumerate() {
        let _ = writeln!(page, "{}. {reason}", index + 1);
    }
    page.push_str(
        "\n## Tests\n\nAll in `tests/suite/matrix`; a row's test runs the scenarios of its cells.\n\n",
    );
    page.push_str("| # | test | scenarios |\n|---|---|---|\n");
    for row in table {
        let mut scenarios: Vec<String> = Vec::new();
        for (point, heading) in POINTS {
            if let Some((_, Cell::Tested(_, name, _))) = row.cells.iter().find(|(at, _)| *at == point) {
                let name = name.replace(' ', "");
                match scenarios.iter_mut().find(|line| line.starts_with(&format!("`{name}`"))) {
                    Some(line) => *line += &format!(", {heading}"),
                    None => scenarios.push(format!("`{name}`: {heading}")),
                }
            }
        }
        let _ = writeln!(page, "| {} | `{}` | {} |", row.number, row.test, scenarios.join("; "));
    }
    page.push_str(include_str!("double.md"));
    page
}

fn footnote(reasons: &mut Vec<String>, why: String) -> String {
    let index = reasons.iter().position(|reason| *reason == why).unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    });
    format!("({})", index + 1)
}
