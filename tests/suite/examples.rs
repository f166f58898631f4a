//! Do the programs in `examples` keep what they promise? `cargo test` builds them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

fn example(name: &str) -> Command {
    let test = env::current_exe().unwrap();
    let target: PathBuf = test.ancestors().nth(2).unwrap().into();
    let program = target.join("examples").join(name);
    assert!(
        program.exists(),
        "the example {name} is not built; cargo build --examples, or cargo test without --test"
    );
    Command::new(program)
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn pixels(picture: &Path) -> u64 {
    let picture = image::open(picture).unwrap();
    u64::from(picture.width()) * u64::from(picture.height())
}

fn done(line: &str) -> bool {
    line.starts_with("done ")
}

#[test]
fn pictures_are_all_small_after_a_kill_and_a_second_run_repeats_only_what_was_on_loan() {
    const PICTURES: usize = 16;
    const WORKERS: usize = 2;
    let folder = tempfile::tempdir().unwrap();
    let images = || {
        let mut command = example("images");
        command.args(["--pictures", &PICTURES.to_string(), "--workers", &WORKERS.to_string()]);
        command.args(["--megapixels", "1", "--work"]).arg(folder.path());
        command
    };

    let mut first = images().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen = lines.by_ref().filter(|line| done(line)).take(3).count();
    first.kill().unwrap();
    seen += lines.filter(|line| done(line)).count();
    first.wait().unwrap();
    let second = images().output().unwrap();

    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    let again = String::from_utf8(second.stdout).unwrap().lines().filter(|line| done(line)).count();
    assert!((PICTURES..=PICTURES + WORKERS).contains(&(seen + again)), "{seen} and then {again}");
    let (pictures, small) = (folder.path().join("pictures"), folder.path().join("small"));
    let expected = names(&pictures);
    let found: BTreeSet<String> = names(&small).into_iter().filter(|name| !name.ends_with(".part")).collect();
    assert_eq!((expected.len(), &found), (PICTURES, &expected));
    for name in expected {
        assert!(pixels(&small.join(&name)) < pixels(&pictures.join(&name)) / 4, "{name}");
    }
}

#[test]
fn every_mail_is_in_the_maildir_or_among_the_dead_letters_though_a_fifth_of_the_attempts_fails() {
    let folder = tempfile::tempdir().unwrap();

    let run = example("email").args(["--mails", "60", "--fail", "0.2"]).arg(folder.path()).output().unwrap();

    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8(run.stdout).unwrap();
    let numbers: Vec<usize> =
        said.lines().last().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    let [60, dead, files] = numbers[..] else { panic!("{said}") };
    let mails = folder.path().join("Maildir/new");
    let receivers: BTreeSet<String> = names(&mails)
        .iter()
        .map(|name| fs::read_to_string(mails.join(name)).unwrap())
        .map(|mail| mail.split("\r\n").find(|line| line.starts_with("To: ")).unwrap().to_owned())
        .collect();
    // Two have no address; others may have failed three times.
    assert!(dead >= 2 && said.contains("attempt 2 failed"), "{said}");
    assert_eq!((files, receivers.len()), (60 - dead, 60 - dead));
}
