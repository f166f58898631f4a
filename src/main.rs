//! Where does the command line begin?

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
