//! `backlog completions`, `man`: what does a shell, or `man`, know of the command line?

use std::path::PathBuf;

use clap::CommandFactory as _;

use super::exit::{self, CLEAN, Failure, Outcome};

/// Write the completions of a shell to stdout.
///
/// For bash: `backlog completions bash > ~/.local/share/bash-completion/completions/backlog`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Write the manual page to stdout; with --to, one for each command into a folder.
///
/// `backlog man | man -l -` shows it.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// A folder that is there
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

pub(super) fn completions(args: &Completions) -> Outcome {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "backlog", &mut out);
    exit::print(&out)?;
    Ok(CLEAN)
}

pub(super) fn man(args: &Man) -> Outcome {
    let command = super::Cli::command();
    match &args.to {
        Some(folder) => {
            let made = clap_mangen::generate_to(command, folder);
            made.map_err(|error| Failure::system(&format!("write into {}", folder.display()), &error))?;
        }
        None => {
            let mut out = Vec::new();
            let made = clap_mangen::Man::new(command).render(&mut out);
            made.map_err(|error| Failure::system(&"make the manual", &error))?;
            exit::print(&out)?;
        }
    }
    Ok(CLEAN)
}
