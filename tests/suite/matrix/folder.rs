//! Is the queue's folder ours alone, and is nothing followed that leads out of it?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use backlog::testing::SimDisk;
use backlog::{Durability, Error, FindingKind, GroupOptions, Options, Queue, Start, inspect, verify};
use tempfile::TempDir;

use super::damage::{Kept, open as open_simulated};
use super::stage::looks_and_changes_nothing;
use super::{forge, table::Point};
use crate::cli::Place;
use crate::harness::{drain, patiently};

/// A queue in a real folder: three messages, of which group `g` has acked one, in two segments.
pub(crate) struct Jobs {
    home: TempDir,
}

pub(crate) const ACTIVE: &str = "log/000000002.seg";
const SEALED: &str = "log/000000001.seg";

impl Jobs {
    /// Makes the queue and closes it.
    pub(crate) fn new() -> Self {
        let jobs = Self { home: tempfile::tempdir().unwrap() };
        let queue = jobs.open();
        for name in ["g", "other"] {
            let new = GroupOptions::new().start(Start::Beginning).ack_durability(Durability::Synced);
            queue.create_group(name, new).unwrap();
        }
        for text in ["one", "two"] {
            queue.push(text.repeat(1000)).unwrap();
        }
        queue.push("three").unwrap();
        queue.group("g").unwrap().consumer().recv().unwrap().ack().unwrap();
        queue.close().unwrap();
        assert!(jobs.path(ACTIVE).exists() && !jobs.path("log/000000003.seg").exists());
        jobs
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("jobs").join(name)
    }

    fn options(&self) -> Options {
        Options::new(self.path("")).segment_bytes(8 << 10).threads(false)
    }

    pub(crate) fn open(&self) -> Queue {
        patiently(&self.options())
    }

    /// Opens a queue that should be refused.
    pub(crate) fn refused(&self) -> Error {
        // A process that another test is just starting shares our locks for a moment.
        loop {
            match self.options().open() {
                Err(error) if error.is_locked() => std::thread::yield_now(),
                other => return other.map(drop).unwrap_err(),
            }
        }
    }

    /// Returns a place outside of the folder.
    pub(crate) fn elsewhere(&self) -> PathBuf {
        self.home.path().join("elsewhere")
    }

    /// Returns what every file holds, and where each link leads.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut todo, mut found) = (vec![self.home.path().to_path_buf()], BTreeMap::new());
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    todo.push(entry.path());
                } else if kind.is_symlink() {
                    let to = fs::read_link(entry.path()).unwrap();
                    found.insert(entry.path(), to.to_string_lossy().into_owned().into_bytes());
                } else if entry.file_name() != "LOCK" {
                    found.insert(entry.path(), fs::read(entry.path()).unwrap());
                }
            }
        }
        found
    }

    /// All is there that was there at first.
    fn is_whole(&self) {
        let queue = self.open();
        assert_eq!(drain(&queue.group("g").unwrap().consumer()), ["two".repeat(1000), "three".into()]);
        assert_eq!(drain(&queue.group("other").unwrap().consumer()).len(), 3);
        queue.close().unwrap();
    }
}

pub(crate) fn a_second_process(point: Point) {
    if point == Point::Inspect {
        // No lock is taken by those who look, and no file is made for it.
        let jobs = Jobs::new();
        let queue = jobs.open();
        let before = jobs.content();
        assert_eq!(inspect(jobs.path("")).unwrap().messages, 3);
        assert_eq!(verify(jobs.path(""), &mut |_| {}).unwrap(), []);
        assert_eq!(jobs.content(), before);
        queue.close().unwrap();
        fs::remove_file(jobs.path("LOCK")).unwrap();
        assert_eq!(verify(jobs.path(""), &mut |_| {}).unwrap(), []);
        assert!(!jobs.path("LOCK").exists());
        let kept = Kept::new(true);
        let _queue = open_simulated(&kept.disk).unwrap();
        return looks_and_changes_nothing(&kept.disk);
    }
    a_second_opening_is_refused_and_changes_nothing();
    a_lock_file_that_nobody_holds_is_no_lock();
}

fn a_second_opening_is_refused_and_changes_nothing() {
    let place = Place::new();
    let options = Options::new(place.path("jobs")).threads(false);
    let queue = patiently(&options);
    queue.push("mine").unwrap();
    let note = fs::read_to_string(place.path("jobs/LOCK")).unwrap();
    let manifest = fs::read(place.path("jobs/MANIFEST")).unwrap();

    // By another handle, and by another process.
    let Err(Error::Locked { note: told, .. }) = options.clone().open() else { panic!("opened twice") };
    let other = place.run_with(&["push", "jobs"], b"theirs\n");

    assert!(note.contains(&std::process::id().to_string()) && told == note, "{note:?} {told:?}");
    assert!(other.code != 0 && other.err.contains("is open elsewhere"), "{other:?}");
    assert_eq!(fs::read(place.path("jobs/MANIFEST")).unwrap(), manifest);
    assert_eq!(fs::read_to_string(place.path("jobs/LOCK")).unwrap(), note);
    queue.push("mine too").unwrap();
    queue.close().unwrap();
    // A process that another test is just starting shares our locks for a moment.
    let theirs = std::iter::repeat_with(|| place.run_with(&["push", "jobs"], b"theirs\n"));
    let theirs = theirs.take(100).find(|done| !done.err.contains("is open elsewhere"));
    assert!(theirs.is_some_and(|done| done.code == 0));
    assert_eq!(drain(&patiently(&options).consumer().unwrap()), ["mine", "mine too", "theirs"]);
}

/// What is in the lock's file decides nothing, and neither does that it is there.
fn a_lock_file_that_nobody_holds_is_no_lock() {
    let jobs = Jobs::new();
    let texts: [&[u8]; 4] = [b"opened by process 1", b"", b"\xFF\x00 no text", &[b'x'; 100_000]];
    for text in texts {
        fs::write(jobs.path("LOCK"), text).unwrap();
        jobs.open().close().unwrap();
    }
    fs::remove_file(jobs.path("LOCK")).unwrap();
    jobs.is_whole();
    // As a killed process leaves it.
    let kept = Kept::new(false);
    assert!(kept.disk.files().contains(&"LOCK".to_owned()));
    assert!(kept.opens(&kept.copy()).missing.is_empty());
}

/// `LOCK` was removed while the queue was open, as one does with what looks stale; the next process
/// made another, locked that, and two of them wrote one log.
#[test]
fn issue_4_whoever_removes_the_lock_file_lets_nobody_else_in() {
    let jobs = Jobs::new();
    let queue = jobs.open();
    fs::remove_file(jobs.path("LOCK")).unwrap();
    let kept = Kept::new(true);
    let simulated = open_simulated(&kept.disk).unwrap();
    kept.disk.remove_file("LOCK");

    let second = jobs.options().open().map(drop);
    let second_simulated = open_simulated(&kept.disk).map(drop);

    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    assert!(matches!(second_simulated, Err(Error::Locked { .. })), "{second_simulated:?}");
    queue.push("still the only one").unwrap();
    queue.close().unwrap();
    simulated.close().unwrap();
    assert_eq!(drain(&jobs.open().group("g").unwrap().consumer()).len(), 3);
    open_simulated(&kept.disk).unwrap();
}

pub(crate) fn strangers(point: Point) {
    match point {
        Point::Roll => {
            a_roll_follows_no_link_in_place_of_a_segment();
            a_roll_follows_no_link_in_place_of_a_folder();
        }
        Point::Open => {
            links_are_refused(&|jobs, name| {
                let before = jobs.content();
                let refused = jobs.refused();
                assert!(matches!(&refused, Error::Io { .. } | Error::Refused { .. }), "{name}: {refused:?}");
                assert_eq!(jobs.content(), before, "{name}: a refusal changes nothing");
            });
            a_name_in_the_manifest_leads_nowhere();
            a_queue_is_born_among_no_strangers();
        }
        _ => links_are_refused(&|jobs, name| {
            let before = jobs.content();
            match verify(jobs.path(""), &mut |_| {}) {
                Ok(findings) => {
                    let told = findings.iter().any(|finding| {
                        finding.path.starts_with(jobs.path("").join(name))
                            && matches!(finding.kind, FindingKind::Refused | FindingKind::Unreadable)
                    });
                    assert!(told, "{name}: {findings:?}");
                }
                Err(Error::Io { path, .. } | Error::Refused { path, .. }) => {
                    assert!(path.starts_with(jobs.path("").join(name)), "{name}: {path:?}");
                }
                Err(error) => panic!("{name}: {error:?}"),
            }
            assert_eq!(jobs.content(), before, "{name}: looking changes nothing");
        }),
    }
}

/// Puts what is not ours in each place of the folder in turn; once it is gone, all is as it was.
fn links_are_refused(refuses: &dyn Fn(&Jobs, &str)) {
    let jobs = Jobs::new();
    let halves = ["groups/g/0.offsets", "groups/g/1.offsets"];
    for name in ["MANIFEST", "log", SEALED, ACTIVE, "groups", "groups/g", halves[0], halves[1]] {
        let (path, away) = (jobs.path(name), jobs.elsewhere());
        fs::rename(&path, &away).unwrap();
        symlink(&away, &path).unwrap();
        refuses(&jobs, name);
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
    for name in ["MANIFEST", ACTIVE, halves[0], halves[1]] {
        fs::hard_link(jobs.path(name), jobs.elsewhere()).unwrap();
        refuses(&jobs, name);
        fs::remove_file(jobs.elsewhere()).unwrap();
    }
    for name in ["MANIFEST", "log", SEALED, ACTIVE, "groups/g", halves[0]] {
        match chown(jobs.path(name), Some(54_321), None) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                println!("skipped: only root can give a file away");
                break;
            }
            given => given.unwrap(),
        }
        refuses(&jobs, name);
        chown(jobs.path(name), Some(0), None).unwrap();
    }
    jobs.is_whole();
}

/// A lock file that is a link, or has a second name, is not locked: somebody else may hold the other.
#[test]
fn a_lock_file_that_is_linked_is_refused() {
    let jobs = Jobs::new();
    fs::rename(jobs.path("LOCK"), jobs.elsewhere()).unwrap();
    symlink(jobs.elsewhere(), jobs.path("LOCK")).unwrap();
    assert!(matches!(jobs.refused(), Error::Io { doing, .. } if doing == "lock"));
    fs::remove_file(jobs.path("LOCK")).unwrap();
    fs::hard_link(jobs.elsewhere(), jobs.path("LOCK")).unwrap();
    assert!(matches!(jobs.refused(), Error::Io { doing, .. } if doing == "lock"));
    fs::remove_file(jobs.elsewhere()).unwrap();
    jobs.is_whole();
}

/// What never changes may have other names: a backup made of links is as good as a copy there.
#[test]
fn a_sealed_segment_may_have_a_second_name_and_the_folder_may_be_a_link() {
    let jobs = Jobs::new();
    fs::hard_link(jobs.path(SEALED), jobs.elsewhere()).unwrap();
    let link = jobs.home.path().join("link");
    symlink(jobs.path(""), &link).unwrap();

    let queue = patiently(&Options::new(link).threads(false));

    assert_eq!(drain(&queue.group("g").unwrap().consumer()).len(), 2);
}

fn a_roll_follows_no_link_in_place_of_a_segment() {
    let jobs = Jobs::new();
    let queue = jobs.open();
    fs::write(jobs.elsewhere(), "a stranger's").unwrap();
    symlink(jobs.elsewhere(), jobs.path("log/000000003.seg")).unwrap();

    let refused = queue.push([7; 6000].as_slice()).unwrap_err();

    assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
    assert_eq!(fs::read(jobs.elsewhere()).unwrap(), b"a stranger's");
    // The next attempt takes a number that nobody has.
    queue.push([8; 6000].as_slice()).unwrap();
    queue.close().unwrap();
    assert_eq!(fs::read(jobs.elsewhere()).unwrap(), b"a stranger's");
    fs::remove_file(jobs.path("log/000000003.seg")).unwrap();
    let consumer = jobs.open().group("g").unwrap().consumer();
    let payloads: Vec<u8> = (0..3).map(|_| consumer.recv().unwrap().payload()[0]).collect();
    assert_eq!(payloads, [b't', b't', 8]);
}

fn a_roll_follows_no_link_in_place_of_a_folder() {
    let jobs = Jobs::new();
    let queue = jobs.open();
    let away = jobs.home.path().join("away");
    fs::rename(jobs.path("log"), &away).unwrap();
    fs::create_dir(jobs.elsewhere()).unwrap();
    symlink(jobs.elsewhere(), jobs.path("log")).unwrap();

    let refused = queue.push([7; 6000].as_slice()).unwrap_err();

    assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
    assert_eq!(fs::read_dir(jobs.elsewhere()).unwrap().count(), 0, "nothing is made elsewhere");
    fs::remove_file(jobs.path("log")).unwrap();
    fs::rename(&away, jobs.path("log")).unwrap();
    queue.push([8; 6000].as_slice()).unwrap();
    queue.close().unwrap();
    jobs.open().close().unwrap();
}

/// A group is a folder of its name: one that a manifest calls `../xx` is none.
fn a_name_in_the_manifest_leads_nowhere() {
    for name in [b"../xx", b"./../", b"a/../", b"/root"] {
        let kept = Kept::new(true);
        let named = |disk: &SimDisk| {
            forge::slot(disk, |slot| {
                let at =
                    slot.windows(5).position(|part| part == b"other").expect("the slot names its groups");
                slot[at..at + 5].copy_from_slice(name);
            });
        };
        let disk = kept.copy();
        named(&disk);
        let files = disk.files();
        // A slot that says so is no slot; the one before it holds, and loses nothing.
        assert_eq!(kept.opens(&disk).missing, BTreeSet::new());
        assert_eq!(disk.files(), files, "{name:?}: nothing was made, or removed, in its name");
    }
}

fn a_queue_is_born_among_no_strangers() {
    let home = tempfile::tempdir().unwrap();
    let (jobs, elsewhere) = (home.path().join("jobs"), home.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    for name in ["log", "groups", "LOCK", "MANIFEST.new", "anything"] {
        fs::create_dir(&jobs).unwrap();
        symlink(&elsewhere, jobs.join(name)).unwrap();
        let refused = Options::new(&jobs).open().map(drop).unwrap_err();
        assert!(matches!(refused, Error::NotAQueue { .. }), "{name}: {refused:?}");
        assert_eq!(names(&jobs), [name]);
        assert_eq!(names(&elsewhere), [""; 0]);
        fs::remove_dir_all(&jobs).unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
