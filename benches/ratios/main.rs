//! How fast is the queue, compared with the least that a program of one's own would have to do?
//!
//! `raw` is that least: one `pwrite` and one `fdatasync` into blocks that were written before. The
//! machine is shared and noisy, so queue and `raw` take turns in slices of some milliseconds within
//! one process, and what counts is the ratio of each pair: its median, least and most.
//!
//! `cargo bench --bench ratios -- [--quick] [--messages N] [--minutes N] [--plots FOLDER] [WORKLOAD…]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at the first failure")]

mod beside;
mod bytes;
mod chain;
mod delayed;
mod drain;
mod guests;
mod ledger;
mod opening;
mod plot;
mod pushing;
mod raw;
mod sample;
mod soak;
mod soak_child;
mod space;
mod thousand;

use std::path::{Path, PathBuf};

/// Bytes of a payload.
const PAYLOAD: usize = 256;

/// What is to be run.
struct Plan {
    quick: bool,
    /// Stored messages, where opening is measured.
    messages: u64,
    /// How long the soak lasts.
    minutes: Option<u64>,
    names: Vec<String>,
    folder: PathBuf,
    /// Where pictures go.
    plots: PathBuf,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| name.contains(wanted.as_str()))
    }

    /// Tells whether a long run was asked for by its name.
    fn asks(&self, name: &str) -> bool {
        self.names.iter().any(|wanted| wanted == name)
    }

    /// Returns how many pairs of slices.
    fn pairs(&self) -> usize {
        if self.quick { 7 } else { 41 }
    }
}

/// Middle, least and most.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }

    fn show(self) -> String {
        format!("{:.2} ({:.2}..{:.2})", self.median, self.min, self.max)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, folder, count] = &arguments[..]
        && child.starts_with("--child-")
    {
        match &child[..] {
            "--child-delayed" | "--child-low" => {
                delayed::child(child, Path::new(folder), count.parse().unwrap());
            }
            "--child-guests" => guests::child(Path::new(folder), count == "1"),
            "--child-soak" => soak_child::run(Path::new(folder), count == "1"),
            _ => opening::child(child, Path::new(folder), count.parse().unwrap()),
        }
        return;
    }
    let target = option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target");
    let mut plan = Plan {
        quick: false,
        messages: 10_000_000,
        minutes: None,
        names: Vec::new(),
        plots: Path::new(target).join("plots"),
        folder: Path::new(target).join(format!("ratios-{}", std::process::id())),
    };
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        match &argument[..] {
            "--quick" => (plan.quick, plan.messages) = (true, plan.messages.min(1_000_000)),
            "--messages" => plan.messages = rest.next().unwrap().parse().unwrap(),
            "--minutes" => plan.minutes = Some(rest.next().unwrap().parse().unwrap()),
            "--plots" => plan.plots = PathBuf::from(rest.next().unwrap()),
            // Cargo adds it.
            "--bench" => {}
            name => plan.names.push(name.to_owned()),
        }
    }
    std::fs::create_dir_all(&plan.folder).unwrap();
    let folder = Remove(plan.folder.clone());
    pushing::run(&plan);
    drain::run(&plan);
    opening::run(&plan);
    delayed::run(&plan);
    chain::run(&plan);
    thousand::run(&plan);
    bytes::run(&plan);
    beside::run(&plan);
    space::run(&plan);
    guests::run(&plan);
    soak::run(&plan);
    drop(folder);
}

/// Removes a folder at the end, after a panic too.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
