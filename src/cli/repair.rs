//! `backlog repair`: what can be done about files that have gone bad?

use backlog::{RepairStep, Repaired};
use serde_json::{Value, json};

use super::bar;
use super::exit::{self, CLEAN, FINDINGS, Failure, Outcome};
use super::look::Folder;
use super::out::{As, Column, Is, Rows, column};

/// Say what can be done about files that have gone bad; with --apply, do it.
///
/// Without --apply it takes no lock and changes nothing: each line is a step; exit 1 if there are any. What is taken
/// out of the queue is kept in its folder `quarantine`. Cut short, it can be done again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Do it. The queue must not be open elsewhere
    #[arg(long)]
    apply: bool,
    /// Also where promised messages, or what a group has done, cannot be read any more and are given up
    #[arg(long, requires = "apply")]
    allow_loss: bool,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 8] = [
    column("step", "step", Is::State),
    column("file", "file", Is::Text),
    column("position", "at byte", Is::Number),
    column("first", "offsets", Is::Number),
    column("end", "end", Is::Number),
    column("loses", "gives up", Is::Text),
    column("problem", "problem", Is::Text),
    column("does", "", Is::Text),
];

pub(super) fn run(args: &Args) -> Outcome {
    let repaired = bar::with(|tell| {
        if args.apply {
            return backlog::repair(args.folder.dir(), args.allow_loss, tell);
        }
        backlog::plan_repair(args.folder.dir(), tell).map(|plan| {
            let mut planned = Repaired::default();
            planned.plan = plan;
            planned
        })
    });
    let repaired = repaired.map_err(Failure::from)?;
    let steps = &repaired.plan.steps;
    let mut rows = Rows::new(args.form, "steps", &COLUMNS);
    for step in steps {
        if !rows.push(row(step))? {
            break;
        }
    }
    rows.end_if_any()?;
    match (steps.is_empty(), args.apply) {
        (true, _) => exit::say("nothing to repair"),
        (false, true) => told(&repaired),
        (false, false) => {
            let leave = if repaired.plan.loses() { " --allow-loss" } else { "" };
            exit::say(&format!("nothing was changed; --apply{leave} does it"));
        }
    }
    Ok(if steps.is_empty() || args.apply { CLEAN } else { FINDINGS })
}

fn row(step: &RepairStep) -> Value {
    json!({
        "step": step.kind.word(),
        "file": step.path.display().to_string(),
        "position": step.position,
        "first": step.offsets.map(|(first, _)| first),
        "end": step.offsets.map(|(_, end)| end),
        "loses": step.loses,
        "problem": step.what,
        "does": step.kind.does(),
    })
}

/// Says what has become of it.
fn told(repaired: &Repaired) {
    for (first, end) in &repaired.lost {
        exit::say(&format!("offsets {first}..{end} cannot be read any more"));
    }
    for (group, count) in &repaired.dead {
        exit::say(&format!("group {group}: {} more", exit::count(*count, "dead letter")));
    }
    for path in &repaired.set_aside {
        exit::say(&format!("kept {}", path.display()));
    }
    exit::say(&format!(
        "{} done; all that can be read is delivered",
        exit::count(repaired.plan.steps.len() as u64, "step")
    ));
}
