//! Are the sessions in `docs/CLI.md` and `docs/RECOVERY.md` what happens?
//!
//! Each `##` section is run in a folder of its own, command by command, and what it prints is compared; times, ids
//! and other numbers that are new each time count as equal. `BACKLOG_BLESS=1` writes what happened into the page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command, and what the page says that it prints.
#[derive(Debug, Default)]
struct Step {
    command: String,
    says: String,
}

/// A page, cut at the steps of its sessions.
#[derive(Debug)]
enum Part {
    Text(String),
    Step(Step),
}

/// Cuts a page: a session is a block of ```` ```console ````, a command begins with `$ ` and goes on with `> `.
fn parts(page: &str) -> Vec<Part> {
    let mut parts = vec![Part::Text(String::new())];
    let mut inside = false;
    let mut going_on = false;
    for line in page.split_inclusive('\n') {
        if line.starts_with("```") {
            inside = line.trim_end() == "```console";
            parts.push(Part::Text(line.to_owned()));
            continue;
        }
        let command = line.strip_prefix("$ ").filter(|_| inside);
        match (command, parts.last_mut().unwrap()) {
            (Some(command), _) => {
                parts.push(Part::Step(Step { command: command.to_owned(), says: String::new() }));
                going_on = true;
            }
            (None, Part::Step(step)) if going_on && line.starts_with("> ") => {
                step.command.push_str(&line[2..])
            }
            (None, Part::Step(step)) => {
                step.says.push_str(line);
                going_on = false;
            }
            (None, Part::Text(text)) => text.push_str(line),
        }
    }
    parts
}

/// Runs the commands of one section, in one shell; returns what each prints.
fn run(commands: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mark = |index: usize| format!("\n<<{index}>>\n");
    // The code of a command is still there for the next one to ask.
    let mut script = "exec 2>&1\n".to_owned();
    for (index, command) in commands.iter().enumerate() {
        let _ = writeln!(script, "{command}_code=$?; printf '%b' '\\n<<{index}>>\\n'; (exit $_code)");
    }
    fs::write(folder.path().join(".script"), script).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_backlog")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(".script")
        .current_dir(folder.path())
        .env("PATH", path)
        .env("COLUMNS", "100")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rest = &text[..];
    let mut said = Vec::new();
    for index in 0..commands.len() {
        let (before, behind) = rest.split_once(&mark(index)).unwrap_or_else(|| panic!("{index}: {rest}"));
        said.push(before.to_owned());
        rest = behind;
    }
    said
}

/// Makes equal what is new each time: moments, identities, how much is free, how fast it went.
fn steady(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() || "-:.".contains(letter) {
            word.push(letter);
            continue;
        }
        out.push_str(if is_new(&word) { "NEW" } else { &word });
        word.clear();
        // Widths follow words.
        if letter != ' ' || !out.ends_with(' ') {
            out.push(letter);
        }
    }
    out.trim_end().to_owned()
}

fn is_new(word: &str) -> bool {
    let moment = word.len() == 24 && word.starts_with("20") && word.ends_with('Z');
    let first = word.split(['-', '.', ':']).find(|part| !part.is_empty()).unwrap_or_default();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let identity = first.len() >= 8 && digits(first) && first.bytes().any(|byte| byte.is_ascii_digit());
    moment || identity
}

fn check(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let mut parts = parts(&text);
    // A section begins where a text has a heading.
    let mut sections: Vec<Vec<usize>> = vec![Vec::new()];
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Text(text) if text.contains("\n## ") || text.starts_with("## ") => {
                sections.push(Vec::new())
            }
            Part::Text(_) => {}
            Part::Step(_) => sections.last_mut().unwrap().push(index),
        }
    }
    let bless = std::env::var_os("BACKLOG_BLESS").is_some();
    let mut steps = 0;
    for section in sections {
        let command = |index: &usize| match &parts[*index] {
            Part::Step(step) => &step.command[..],
            Part::Text(_) => "",
        };
        let said = run(&section.iter().map(command).collect::<Vec<_>>());
        for (index, mut said) in section.into_iter().zip(said) {
            let Part::Step(step) = &mut parts[index] else { continue };
            steps += 1;
            // A person's next prompt begins a line.
            if !said.is_empty() && !said.ends_with('\n') {
                said.push('\n');
            }
            if bless {
                step.says = said;
            } else {
                assert_eq!(steady(&said), steady(&step.says), "{page}: $ {}", step.command);
            }
        }
    }
    assert!(steps > 5, "{page} has sessions");
    if bless {
        let all = parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Step(step) => {
                format!("$ {}{}", step.command.trim_end().replace('\n', "\n> ") + "\n", step.says)
            }
        });
        fs::write(&path, all.collect::<String>()).unwrap();
    }
}

#[test]
fn the_sessions_of_the_page_about_the_command_line_are_what_happens() {
    check("CLI.md");
}

#[test]
fn the_sessions_of_the_page_about_recovery_are_what_happens() {
    check("RECOVERY.md");
}

#[test]
fn a_session_that_is_wrong_is_noticed() {
    let said = run(&["echo one\n", "false\n", "echo $?\n", "echo out; echo err >&2\n"]);
    assert_eq!(said, ["one\n", "", "1\n", "out\nerr\n"]);
    assert_eq!(steady("at 2026-11-23T22:56:40.808Z  x"), "at NEW x");
    assert_eq!(steady("id c03e4bafa80a0f16bc1b085db7b124d7-1"), "id NEW");
    assert_ne!(steady("0..5"), steady("0..6"));
    assert_ne!(steady("damaged"), steady("torn"));
    let page = "a\n```console\n$ one\n> two\nsays\n$ three\n```\nb\n";
    let parts = parts(page);
    let steps: Vec<_> = parts
        .iter()
        .filter_map(|part| {
            if let Part::Step(step) = part { Some((&step.command[..], &step.says[..])) } else { None }
        })
        .collect();
    assert_eq!(steps, [("one\ntwo\n", "says\n"), ("three\n", "")]);
}
