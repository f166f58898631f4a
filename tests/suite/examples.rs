//! Do the programs in `examples` keep what they promise? `cargo test` builds them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{env, fs, thread};

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

/// Takes one mail, as a server does; knows nobody at `password-reset.example`.
fn serve(stream: TcpStream) -> String {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    let mut say = |reply: &str| stream.write_all(format!("{reply}\r\n").as_bytes()).unwrap();
    let mut heard = String::new();
    say("220-welcome\r\n220 to the test");
    while let Some(Ok(line)) = lines.next() {
        heard.push_str(&format!("{line}\n"));
        match line.split(' ').next().unwrap() {
            "EHLO" => say("250-test\r\n250-SIZE 1000\r\n250 8BITMIME"),
            "RCPT" if line.contains("password-reset") => {
                say("550-nobody\r\n550 of that name");
                break;
            }
            "DATA" => {
                say("354 go on");
                for line in lines.by_ref().map(Result::unwrap).take_while(|line| line != ".") {
                    heard.push_str(&format!("{line}\n"));
                }
                say("250 taken");
            }
            "QUIT" => say("221 good bye"),
            _ => say("250 fine"),
        }
    }
    heard
}

#[test]
fn a_mail_reaches_a_server_with_its_dots_doubled_and_one_for_nobody_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = server.local_addr().unwrap().to_string();
    let (send, heard) = mpsc::channel();
    // It ends with the test's process: nobody else connects.
    thread::spawn(move || server.incoming().for_each(|stream| send.send(serve(stream.unwrap())).unwrap()));

    let run = example("email").args(["--mails", "4", "--smtp", &host]).arg(folder.path()).output().unwrap();

    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    let mut heard = [heard.recv().unwrap(), heard.recv().unwrap()];
    heard.sort_by_key(|text| text.contains("password-reset"));
    let [taken, refused] = heard;
    let to = "RCPT TO:<user-1@sign-up.example>\n";
    assert!(taken.contains(to) && taken.contains("\n.... and so are we.\nQUIT\n"), "{taken}");
    assert!(!refused.contains("DATA") && said.contains("given up: 550-nobody / 550 of that name"), "{said}");
    assert!(said.contains("4 mails, 3 dead letters"), "{said}");
}

/// Signs people up over one connection.
struct Visitor {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Visitor {
    fn of(service: &str) -> Self {
        let stream = TcpStream::connect(service).unwrap();
        Self { answers: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    /// Returns the answer's first line.
    fn sign_up(&mut self, address: &str) -> String {
        let head = format!("POST /signup HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", address.len());
        self.stream.write_all((head + address).as_bytes()).unwrap();
        let mut lines = self.answers.by_ref().lines().map(Result::unwrap);
        let first = lines.next().unwrap();
        let length = |line: String| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok();
        let lengths: Vec<usize> = lines.take_while(|line| !line.is_empty()).filter_map(length).collect();
        self.answers.read_exact(&mut vec![0; lengths[0]]).unwrap();
        first
    }
}

/// Signs people up, one for each number, from several connections; all are told that a mail is on its way.
fn sign_up_all(service: &str, numbers: Range<usize>) {
    const VISITORS: usize = 8;
    thread::scope(|scope| {
        for first in numbers.clone().take(VISITORS) {
            let numbers = (first..numbers.end).step_by(VISITORS);
            scope.spawn(move || {
                let mut visitor = Visitor::of(service);
                for number in numbers {
                    let answer = visitor.sign_up(&format!("user-{number}@example.org"));
                    assert_eq!(answer, "HTTP/1.1 202 Accepted");
                }
            });
        }
    });
}

/// A process of the example `web`, and what it says.
struct Web {
    child: Child,
    says: mpsc::Receiver<String>,
}

impl Web {
    fn run(arguments: &[&str], folders: &[&Path]) -> Self {
        let mut child = example("web").args(arguments).args(folders).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, says) = mpsc::channel();
        // Nobody listens to one that was killed.
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, says }
    }

    fn address(&self) -> String {
        self.says.recv().unwrap().strip_prefix("listening on ").unwrap().to_owned()
    }

    /// Waits until it has sent so many mails.
    fn sends(&self, count: usize) {
        (0..count).for_each(|_| drop(self.says.recv().expect("a mail is sent")));
    }

    /// Waits until so many mails are there, of which it sends the last.
    fn fills(&self, outbox: &Path, count: usize) {
        while names(outbox).len() < count {
            self.sends(1);
            // What it has said meanwhile need not be looked at one by one.
            self.says.try_iter().for_each(drop);
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// 10,000 requests over sockets: to a service whose process sends the mails too; to one beside a worker in a process of its
/// own, of which each is killed while the other works; and to one that is killed before the last worker ends.
#[test]
fn each_sign_up_that_was_answered_gets_its_mail_once_whichever_process_sends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (jobs, outbox) = (folder.path().join("jobs"), folder.path().join("outbox"));
    let (jobs, outbox) = (jobs.as_path(), outbox.as_path());
    let local = "127.0.0.1:0";

    let both = Web::run(&["serve", local], &[jobs, outbox]);
    let service = both.address();
    assert_eq!(Visitor::of(&service).sign_up("nobody"), "HTTP/1.1 400 Bad Request");
    sign_up_all(&service, 0..3000);
    both.sends(1000);
    both.kill();

    let service = Web::run(&["accept", local], &[jobs]);
    let address = service.address();
    let worker = Web::run(&["worker"], &[jobs, outbox]);
    sign_up_all(&address, 3000..5000);
    worker.sends(500);
    worker.kill();
    let worker = Web::run(&["worker"], &[jobs, outbox]);
    sign_up_all(&address, 5000..7000);
    // The owner, up to here.
    service.kill();
    let service = Web::run(&["accept", local], &[jobs]);
    sign_up_all(&service.address(), 7000..10_000);
    service.kill();
    // One whose ack had not been synced, or whose loan was lost with the process, may come again.
    worker.fills(outbox, 10_000);
    worker.kill();

    let mails = names(outbox);
    let to =
        |name: &String| fs::read_to_string(outbox.join(name)).unwrap().lines().next().unwrap().to_owned();
    let receivers: BTreeSet<String> = mails.iter().map(to).collect();
    let expected: BTreeSet<String> =
        (0..10_000).map(|number| format!("To: user-{number}@example.org")).collect();
    assert_eq!((mails.len(), receivers), (10_000, expected));
}
