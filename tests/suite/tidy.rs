//! Is the architecture (`docs/DESIGN.md` §9) what the code does? Arrows, doors, file length.
//!
//! The tables are the rules: a change of the architecture is a change here, seen in review.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::rust_text::{first_names, named_under, strip, without_tests, words};

/// A module names only modules of lower levels.
const LEVELS: [&[&str]; 9] = [
    &["error", "offset", "header", "clock", "storage", "sync", "wake", "plant", "cron"],
    &["commit", "format", "codec", "options"],
    &["log", "offsets", "manifest", "inspect", "message"],
    &["group", "compact"],
    &["engine"],
    &["share"],
    &["consumer"],
    &["queue", "pool"],
    &["cli"],
];

/// Arrows within a level, from the front of a module's path to a module.
const BESIDE: [(&str, &str); 12] = [
    ("cron", "error"),
    ("error", "offset"),
    ("wake", "sync"),
    ("clock", "wake"),
    ("clock", "offset"),
    ("clock", "error"),
    ("storage", "error"),
    ("format/snapshot", "codec"),
    // What is wanted of a queue is told to its owner.
    ("options", "codec"),
    // The roll is one step of both: the slot seals the old segment and names the new one.
    ("log", "manifest"),
    // Looking reads what both write, and is named by neither.
    ("inspect", "log"),
    ("inspect", "manifest"),
];

/// Each outside crate is named behind its door only.
const DOORS: [(&str, &[&str]); 23] = [
    ("chrono", &["cron"]),
    ("croner", &["cron"]),
    ("memmap2", &["storage/disk"]),
    ("mio", &["share"]),
    ("fs2", &["storage/disk"]),
    ("futures_core", &["consumer"]),
    ("rustix", &["storage/disk", "cli"]),
    ("crc32fast", &["format"]),
    ("byteorder", &["format"]),
    ("serde", &["codec", "format/snapshot", "cli"]),
    ("bincode", &["codec"]),
    ("thiserror", &["error", "format/mod"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("csv", &["cli"]),
    ("data_encoding", &["cli"]),
    ("sha2", &["cli"]),
    ("unicode_width", &["cli"]),
    ("humantime", &["cli"]),
    ("indicatif", &["cli"]),
    ("serde_json", &["codec", "cli"]),
    ("signal_hook", &["cli"]),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["storage/disk"];
/// Where the system's files may be touched: the disk, and files that a command is given.
const FILES: &[&str] = &["storage/disk", "cli"];
/// The roots, which name everything.
const ROOTS: [&str; 3] = ["lib", "main", "bin"];
/// A file has fewer lines.
const LINES: usize = 500;
/// The macros that make a test of behaviour run on the real and on the simulated disk; the second, as a guest too.
const BOTH_DISKS: &str = "on_both_disks";
const EVERYWHERE: &str = "everywhere";

/// A Rust file: its path from the repository's folder, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The path below `src` without the extension; `None` for other files.
    fn module(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.strip_suffix(".rs")
    }

    fn is_behaviour(&self) -> bool {
        self.path.starts_with("tests/suite/behaviour")
    }
}

/// Tells whether a path is a module or lies in it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '_']))
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

/// Returns what is against the rules, a line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let tests = test_modules(sources);
    let mut found = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        if lines >= LINES {
            found.push(format!("{}: {lines} lines, fewer than {LINES} are allowed", source.path));
        }
        let stripped = strip(&source.text);
        if source.is_behaviour() {
            check_behaviour(source, &stripped, &mut found);
        }
        let Some(module) = source.module() else { continue };
        if !source.text.starts_with("//!") {
            found.push(format!(
                "{}: the first line does not say which question it answers (//!)",
                source.path
            ));
        }
        if !tests.iter().any(|test| is_in(module, test)) {
            let (code, _) = without_tests(&stripped);
            check_arrows(module, &code, &mut found);
            check_doors(module, &code, &mut found);
        }
    }
    found
}

/// Returns the modules that are compiled for tests only and lie in files of their own.
fn test_modules(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        let Some(module) = source.module() else { continue };
        let folder = match module {
            "lib" | "main" => "",
            module => module.strip_suffix("/mod").unwrap_or(module),
        };
        let (_, names) = without_tests(&strip(&source.text));
        found.extend(names.iter().map(|name| format!("{folder}/{name}").trim_start_matches('/').to_owned()));
    }
    found
}

fn check_arrows(module: &str, code: &str, found: &mut Vec<String>) {
    let own = module.split('/').next().unwrap_or(module);
    if ROOTS.contains(&own) {
        return;
    }
    let Some(own_level) = level(own) else {
        found.push(format!("{module}: the table of levels does not know it"));
        return;
    };
    let mut targets = named_under(code, "crate");
    targets.extend(named_by_super(module, code));
    for target in targets.into_iter().filter(|&target| target != own) {
        // What uses the public face finds it at the root.
        let face = own == "cli" && target.starts_with(char::is_uppercase);
        let beside = BESIDE.iter().any(|&(from, to)| is_in(module, from) && to == target);
        let below = level(target).is_some_and(|level| level < own_level);
        if !(face || beside || below) {
            found.push(format!("{module}: names {target}, which is not on a lower level"));
        }
    }
}

/// Returns what is named at the crate's root by way of `super`.
fn named_by_super<'a>(module: &str, code: &'a str) -> Vec<&'a str> {
    let depth = module.strip_suffix("/mod").unwrap_or(module).split('/').count();
    let mut named = Vec::new();
    for (at, word) in words(code) {
        if word != "super" || code[..at].trim_end().ends_with("::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut up = 0;
        while let Some(behind) = rest.strip_prefix("super") {
            up += 1;
            rest = behind.trim_start().strip_prefix("::").unwrap_or("").trim_start();
        }
        if up == depth {
            named.extend(first_names(rest));
        }
    }
    named
}

fn check_doors(module: &str, code: &str, found: &mut Vec<String>) {
    let is_behind = |doors: &[&str]| doors.iter().any(|door| is_in(module, door));
    for (name, doors) in DOORS {
        if names_crate(code, name) && !is_behind(doors) {
            found.push(format!("{module}: names {name}, whose door is {doors:?}"));
        }
    }
    if words(code).any(|(_, word)| word == "unsafe") && !is_behind(UNSAFE) {
        found.push(format!("{module}: is unsafe; only {UNSAFE:?} may be"));
    }
    if named_under(code, "std").contains(&"fs") && !is_behind(FILES) {
        found.push(format!("{module}: touches std::fs; only {FILES:?} may"));
    }
}

/// Tells whether a path begins with the name of a crate, or a `use` takes it whole.
fn names_crate(code: &str, name: &str) -> bool {
    words(code).filter(|&(_, word)| word == name).any(|(at, word)| {
        let before = code[..at].trim_end();
        let before =
            before.strip_suffix("::").filter(|rest| !rest.ends_with(char::is_alphanumeric)).unwrap_or(before);
        let used = ["use", "crate"].iter().any(|keyword| before.ends_with(keyword));
        !before.ends_with("::") && (used || code[at + word.len()..].trim_start().starts_with("::"))
    })
}

fn check_behaviour(source: &Source, stripped: &str, found: &mut Vec<String>) {
    let compact: String = stripped.split_whitespace().collect();
    if compact.contains("#[test]") {
        found.push(format!("{}: has a #[test] of its own; use {BOTH_DISKS}!", source.path));
    }
    if ![BOTH_DISKS, EVERYWHERE].iter().any(|name| compact.contains(&format!("{name}!"))) {
        found.push(format!("{}: tests nothing by {BOTH_DISKS}! or {EVERYWHERE}!", source.path));
    }
}

/// Reads all Rust files below a folder of the repository; none if there is no such folder.
fn read(folder: &str, into: &mut Vec<Source>) {
    let Ok(names) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) else { return };
    for name in names {
        let name = name.unwrap();
        let path = format!("{folder}/{}", name.file_name().to_str().unwrap());
        if name.file_type().unwrap().is_dir() {
            read(&path, into);
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
            into.push(Source { text: fs::read_to_string(name.path()).unwrap(), path });
        }
    }
}

#[test]
fn the_code_keeps_to_the_architecture() {
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz/src", "fuzz/fuzz_targets"] {
        read(folder, &mut sources);
    }

    let found = violations(&sources);

    assert!(sources.iter().any(|source| source.path == "src/format/mod.rs"));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_outside_crate_has_a_door() {
    let manifest = include_str!("../../Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let crates: Vec<String> = section
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect();

    assert!(crates.len() >= 8, "{crates:?}");
    for name in crates {
        assert!(DOORS.iter().any(|(known, _)| *known == name), "{name} has no door");
    }
}

/// Checks one file and returns what is said about it.
fn said(path: &str, text: &str) -> String {
    violations(&[Source { path: path.into(), text: text.into() }]).join("\n")
}

#[test]
fn an_arrow_upwards_or_sideways_is_caught() {
    let bad = [
        ("src/log/mod.rs", "use crate::engine::Engine;"),
        ("src/log/mod.rs", "use crate::{error::Error, group::{self, X}};"),
        ("src/log/writer.rs", "fn f() { crate::queue::open() }"),
        ("src/log/writer.rs", "use crate::offsets::Half;"),
        ("src/format/header.rs", "use crate::codec;"),
        ("src/error.rs", "use super::queue::Queue;"),
        ("src/log/writer.rs", "use super::super::{error, engine};"),
        ("src/log.rs", "use crate::Queue;"),
        ("src/elsewhere.rs", ""),
    ];
    for (path, code) in bad {
        let said = said(path, &format!("//! x\n{code}"));
        assert!(said.contains("level"), "{path} {code}: {said:?}");
    }
}

#[test]
fn an_arrow_downwards_is_fine_and_so_is_what_only_looks_like_one() {
    let good = [
        ("src/log/mod.rs", "use crate::{error::Error, format::batch, log::x}; // crate::engine"),
        ("src/format/snapshot.rs", "use crate::codec; const X: &str = \"crate::engine\";"),
        ("src/log/mod.rs", "#[cfg(test)]\nmod tests { use crate::engine; }"),
        ("src/log/writer.rs", "use super::mark; use super::super::error;"),
        ("src/cli/push.rs", "use crate::Queue;"),
        ("src/lib.rs", "use crate::queue::Queue;"),
        ("src/bin/backlog.rs", "use crate::cli;"),
        ("tests/suite/x.rs", "use crate::engine; unsafe {}"),
    ];
    for (path, code) in good {
        assert_eq!(said(path, &format!("//! x\n{code}")), "", "{path} {code}");
    }
}

#[test]
fn each_crate_is_caught_outside_its_door_and_let_through_it() {
    for (name, doors) in DOORS {
        for code in [
            "use NAME::X;",
            "use NAME;",
            "fn f() { NAME::g() }",
            "use ::NAME::X;",
            "#[derive(NAME::X)] struct Y;",
        ] {
            let code = format!("//! x\n{}", code.replace("NAME", name));
            assert!(said("src/engine/x.rs", &code).contains("door"), "{code}");
            for door in doors {
                assert_eq!(said(&format!("src/{door}.rs"), &code), "", "{door} {code}");
            }
        }
    }
    assert_eq!(said("src/queue/x.rs", "//! x\nfn bincode() { Message::bincode(x); a.serde(); }"), "");
}

#[test]
fn unsafe_and_files_are_caught_outside_the_disk() {
    for code in ["unsafe { x() }", "unsafe impl Send for X {}"] {
        assert!(said("src/log.rs", &format!("//! x\n{code}")).contains("unsafe"), "{code}");
        assert_eq!(said("src/storage/disk.rs", &format!("//! x\n{code}")), "");
    }
    for code in ["use std::fs;", "use std::{io, fs::File};", "fn f() { std::fs::read(x) }"] {
        assert!(said("src/log.rs", &format!("//! x\n{code}")).contains("std::fs"), "{code}");
        assert_eq!(said("src/storage/disk/map.rs", &format!("//! x\n{code}")), "");
    }
    assert_eq!(said("src/log.rs", "//! x\n#[cfg(test)] mod tests { use std::fs; }"), "");
}

#[test]
fn a_module_for_tests_in_a_file_of_its_own_is_no_part_of_the_architecture() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: format!("//! x\n{text}") };
    let golden = || source("src/format/golden.rs", "use std::fs; use crate::engine;");

    let declared = violations(&[source("src/format/mod.rs", "#[cfg(test)]\nmod golden;"), golden()]);
    let undeclared = violations(&[source("src/format/mod.rs", "mod golden;"), golden()]);

    assert_eq!(declared, [""; 0]);
    assert_eq!(undeclared.len(), 2);
}

#[test]
fn a_long_file_is_caught_wherever_it_is() {
    for path in ["src/log.rs", "tests/suite/x.rs", "benches/x.rs", "examples/x.rs"] {
        assert!(said(path, &format!("//! x{}", "\n//".repeat(LINES - 1))).contains("500 lines"), "{path}");
        assert_eq!(said(path, &format!("//! x{}", "\n//".repeat(LINES - 2))), "");
    }
}

#[test]
fn a_file_that_does_not_say_its_question_is_caught() {
    assert!(said("src/log.rs", "use std::io;\n//! x").contains("question"));
}

#[test]
fn a_behaviour_test_that_goes_past_the_two_disks_is_caught() {
    let path = "tests/suite/behaviour_push.rs";

    assert!(said(path, "on_both_disks! { fn a() {} }\n#[test]\nfn b() {}").contains("of its own"));
    assert!(said(path, "fn a() {}").contains("tests nothing"));
    assert_eq!(said(path, "//! #[test]\non_both_disks! { fn a() {} }"), "");
    assert_eq!(said(path, "//! x?\neverywhere! { fn a() {} }"), "");
}
