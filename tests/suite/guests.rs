//! Can several handles, as several processes, use one folder at the same time?
//!
//! A second opening in this process is a guest as another process would be: it has a connection and a holder of its
//! own. `guests_killed.rs` does it with real processes.

use std::future::Future as _;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use backlog::{
    Durability, Error, GroupOptions, Message, MessageState, Options, Outcome, Queue, Start, WhenFull,
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

struct Folder {
    home: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("jobs")
    }

    fn open(&self) -> Queue {
        Options::new(self.path()).exclusive(false).open().unwrap()
    }

    /// The next message is that one, and it is its first try.
    fn has_first(&self, payload: &str) {
        let queue = self.open();
        let job = queue.consumer().unwrap().recv_timeout(SOON).unwrap().expect("a message");
        assert_eq!((job.payload(), job.attempt()), (payload.as_bytes(), 1));
    }
}

fn payload(queue: &Queue) -> String {
    let job = queue.consumer().unwrap().recv_timeout(SOON).unwrap().expect("a message");
    let text = String::from_utf8(job.payload().to_vec()).unwrap();
    job.ack().unwrap();
    text
}

#[test]
fn a_second_opening_is_a_guest_and_both_see_what_the_other_does() {
    let folder = Folder::new();
    let owner = folder.open();
    let guest = folder.open();

    let first = guest.push("from the guest").unwrap();
    let second = owner.push("from the owner").unwrap();

    assert!(first < second);
    assert_eq!(payload(&owner), "from the guest");
    assert_eq!(payload(&guest), "from the owner");
    assert_eq!(guest.stats(), owner.stats());
    assert_eq!(guest.groups(), ["default"]);
    guest.close().unwrap();
    owner.close().unwrap();
}

/// Room for loans was asked for in the background, and a guest that gave no time was told that nothing is there.
#[test]
fn issue_7_a_guest_that_does_not_wait_is_lent_what_is_there() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    owner.push("there").unwrap();
    let worker = guest.consumer().unwrap();

    let job = worker.try_recv().unwrap();

    assert_eq!(job.expect("it is there").payload(), b"there");
}

#[test]
fn an_exclusive_owner_serves_nobody() {
    let folder = Folder::new();
    let owner = Options::new(folder.path()).exclusive(true).open().unwrap();

    let error = Options::new(folder.path()).exclusive(false).open().unwrap_err();

    assert!(error.is_locked(), "{error}");
    assert!(!folder.path().join("SOCKET").exists());
    owner.close().unwrap();
}

#[test]
fn a_guest_waits_for_a_message_at_the_owner() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let worker = guest.consumer().unwrap();
    assert!(worker.try_recv().unwrap().is_none());
    assert!(worker.recv_timeout(Duration::from_millis(10)).unwrap().is_none());

    let waits = std::thread::spawn(move || worker.recv().map(|job| job.payload().to_vec()));
    owner.push("at last").unwrap();

    assert_eq!(waits.join().unwrap().unwrap(), b"at last");
}

#[test]
fn a_guest_that_does_not_wait_gets_what_is_there() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let worker = guest.create_group("fresh", GroupOptions::new()).unwrap().consumer();
    owner.push_batch(["1", "2", "3"]).unwrap();

    let first = worker.try_recv().unwrap().expect("a message");
    let rest = worker.recv_batch(9, Duration::ZERO).unwrap();

    assert_eq!((first.payload(), rest.len()), (&b"1"[..], 2));
    assert!(worker.try_recv().unwrap().is_none());
}

#[test]
fn a_guest_that_closes_ends_those_who_wait_in_it() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let worker = guest.consumer().unwrap();
    let waits = std::thread::spawn(move || worker.recv().map(drop));
    let task = guest.consumer().unwrap();
    let mut polled = task.recv_async();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut polled).poll(&mut context).is_pending());

    guest.close().unwrap();

    assert!(matches!(waits.join().unwrap(), Err(Error::Closed)));
    assert!(matches!(Pin::new(&mut polled).poll(&mut context), Poll::Ready(Err(Error::Closed))));
    owner.close().unwrap();
}

#[test]
fn a_ticket_of_a_guest_tells_the_same_each_time() {
    let folder = Folder::new();
    let (_owner, guest) = (folder.open(), folder.open());

    let ticket = guest.push_deferred("x").unwrap();

    let told = ticket.wait_timeout(SOON).unwrap();
    assert_eq!(ticket.wait_timeout(SOON).unwrap(), told);
    assert_eq!(ticket.wait().unwrap(), told);
}

#[test]
fn a_guest_settles_in_every_way() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let group = guest.create_group("mailer", GroupOptions::new().max_failures(2)).unwrap();
    let worker = group.consumer();
    let recv = || worker.recv_timeout(SOON).unwrap().expect("a message");
    guest.push_batch(["a", "b", "c", "d", "e"]).unwrap();

    recv().ack().unwrap();
    recv().nack_after(Duration::ZERO, "once").unwrap();
    let again = recv();
    assert_eq!((again.payload(), again.attempt()), (&b"b"[..], 2));
    again.reject("never").unwrap();
    let given_back = recv();
    assert_eq!(given_back.payload(), b"c");
    given_back.release().unwrap();
    let job = recv();
    assert_eq!((job.payload(), job.attempt()), (&b"c"[..], 1), "giving back counts for nothing");
    let outputs = job.ack_with([Message::new("of c").kind("out")]).unwrap();
    assert_eq!(outputs.count(), 1);
    let jobs = worker.recv_batch(9, SOON).unwrap();
    assert_eq!(jobs.len(), 3);
    for answer in guest.ack_all(jobs).unwrap() {
        answer.unwrap();
    }

    let dead = group.dead();
    assert_eq!((dead.len(), dead[0].error.as_deref()), (1, Some("never")));
    assert_eq!(owner.group("mailer").unwrap().dead(), dead);
    let peek = group.browse(MessageState::Dead).next().unwrap().unwrap();
    assert_eq!(peek.payload(), b"b");
    assert_eq!(group.revive_all().unwrap(), 1);
    drop(recv());
    assert_eq!(group.stats().delayed, 1, "dropped, it is a nack");
    assert_eq!(group.purge().unwrap(), 1);
    assert_eq!(group.stats().ready, 0);
}

#[test]
fn a_guest_has_the_whole_face() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let group = guest.create_group("audit", GroupOptions::new().start(Start::Beginning)).unwrap();
    assert!(matches!(guest.create_group("audit", GroupOptions::new()), Err(Error::GroupExists { .. })));
    assert!(matches!(guest.create_group("A", GroupOptions::new()), Err(Error::GroupName { .. })));
    assert!(matches!(guest.group("nobody"), Err(Error::NoSuchGroup { .. })));

    let first = guest.push(Message::new("x").unique_key("k").header("trace", "a1")).unwrap();
    assert_eq!(guest.push(Message::new("x").unique_key("k")).unwrap(), first);
    assert_eq!(guest.discard_key("k").unwrap(), 1);
    guest.with_durability(Durability::Buffered).push("buffered").unwrap();
    guest.sync().unwrap();
    group.pause().unwrap();
    assert!(group.stats().paused && owner.group("audit").unwrap().stats().paused);
    group.resume().unwrap();
    group.set(group.options().unwrap().max_failures(7)).unwrap();
    assert!(group.seek(Start::Beginning).unwrap() <= first);
    let peek = group.peek(first).unwrap().unwrap();
    assert_eq!(
        peek.header("trace").and_then(|value| value.as_str().map(str::to_owned)).as_deref(),
        Some("a1")
    );
    let job = group.consumer().with_lease(SOON).recv_timeout(SOON).unwrap().expect("a message");
    job.extend(SOON).unwrap();
    let receipt = job.leave();
    owner.settle(&receipt, &Outcome::Ack).unwrap();
    assert!(matches!(guest.settle(&receipt, &Outcome::Ack), Err(Error::LeaseLost { .. })));
    assert_eq!(guest.pins().unwrap().len(), 1);
    assert_eq!(guest.limits(), owner.limits());
    assert!(guest.recovery().created);
    let tickets: Vec<_> = (0..100).map(|n| guest.push_deferred(format!("{n}")).unwrap()).collect();
    let offsets: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait().unwrap()).collect();
    assert!(offsets.is_sorted(), "in the order in which they were handed over");
    guest.remove_group("audit").unwrap();
    assert!(matches!(group.consumer().recv(), Err(Error::NoSuchGroup { .. })));
    guest.close().unwrap();
    assert!(matches!(guest.push("x"), Err(Error::Closed)));
}

#[test]
fn what_is_too_long_is_refused_at_the_guest() {
    let folder = Folder::new();
    let owner = Options::new(folder.path()).max_message_bytes(10).exclusive(false).open().unwrap();
    let guest = folder.open();

    let error = guest.push("eleven bytes").unwrap_err();

    assert!(matches!(error, Error::TooLarge { limit: 10, .. }), "{error}");
    owner.close().unwrap();
}

#[test]
fn a_long_message_goes_both_ways() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let long: Vec<u8> = (0..20_000_000u32).map(|n| n.to_le_bytes()[0]).collect();

    guest.push(&long[..]).unwrap();

    let job = guest.consumer().unwrap().recv_timeout(SOON).unwrap().expect("a message");
    assert!(job.payload() == long);
    job.ack().unwrap();
    assert_eq!(owner.group("default").unwrap().stats().ready, 0);
}

#[test]
fn when_the_owner_closes_a_guest_takes_over_and_no_call_fails() {
    let folder = Folder::new();
    let owner = folder.open();
    let guests = [folder.open(), folder.open(), folder.open()];
    let held = guests[0].push("held").and_then(|_| guests[0].consumer()?.recv()).unwrap();
    let worker = guests[1].consumer().unwrap();
    let waits = std::thread::spawn(move || worker.recv().and_then(|job| job.ack()));

    owner.close().unwrap();
    for (number, guest) in guests.iter().enumerate() {
        guest.push(format!("{number}")).unwrap();
    }

    waits.join().unwrap().unwrap();
    assert_eq!(held.payload(), b"held");
    held.ack().unwrap();
    let left = guests[2].stats();
    assert_eq!((left.groups[0].on_loan, left.groups[0].ready), (0, 2));
    for guest in guests {
        guest.close().unwrap();
    }
    let queue = folder.open();
    assert!(queue.recovery().clean, "{:?}", queue.recovery());
    assert_eq!(queue.stats().groups[0].ready, 2);
}

#[test]
fn a_guest_that_closes_gives_its_loans_back_uncounted() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    owner.push("x").unwrap();
    let held = guest.consumer().unwrap().recv().unwrap();

    guest.close().unwrap();

    let job = owner.consumer().unwrap().recv_timeout(SOON).unwrap().expect("a message");
    assert_eq!(job.attempt(), 1);
    assert!(matches!(held.ack(), Err(Error::Closed)));
}

/// What it held when the first owner went is named by a holder of its own.
#[test]
fn what_a_guest_holds_since_an_earlier_owner_goes_back_uncounted_when_it_closes() {
    let folder = Folder::new();
    let (first, second) = (folder.open(), folder.open());
    first.push("x").unwrap();
    let (heir, guest) = (folder.open(), folder.open());
    let held = guest.consumer().unwrap().recv().unwrap();
    first.close().unwrap();
    second.close().unwrap();
    // Both are connected to somebody who lives, whoever that is.
    heir.push("y").unwrap();
    guest.push("z").unwrap();

    guest.close().unwrap();

    folder.has_first("x");
    drop(held);
}

#[test]
fn what_a_guest_holds_goes_back_uncounted_when_it_closes_as_the_owner() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    owner.push("x").unwrap();
    let held = guest.consumer().unwrap().recv().unwrap();
    owner.close().unwrap();
    guest.push("y").unwrap();

    guest.close().unwrap();

    folder.has_first("x");
    drop(held);
}

#[test]
fn the_limits_that_a_guest_wants_hold_at_the_owner_and_a_takeover_brings_no_old_ones_back() {
    let folder = Folder::new();
    let shared = || Options::new(folder.path());
    let owner = folder.open();
    let guest = shared().max_messages(2).dedup_window(1, Duration::from_secs(60)).open().unwrap();
    owner.consumer().unwrap();
    assert_eq!(owner.limits(), guest.limits());
    owner.push_batch(["a", "b"]).unwrap();
    assert!(matches!(owner.push("c").unwrap_err(), Error::AtLimit { .. }));

    let other = shared().max_messages(3).max_bytes(1 << 20).open().unwrap();
    owner.push("c").unwrap();
    other.close().unwrap();
    owner.close().unwrap();

    // Whoever opened with a limit of 2 is the owner now.
    let limits = guest.limits();
    assert_eq!((limits.max_messages, limits.max_bytes), (Some(3), Some(1 << 20)));
    assert!(matches!(guest.push("d").unwrap_err(), Error::AtLimit { .. }));
    assert_eq!(payload(&guest), "a");
    guest.push("d").unwrap();

    // Taken back, a limit is none at once.
    shared().max_messages(0).max_bytes(0).open().unwrap().close().unwrap();
    guest.push_batch(["e", "f"]).unwrap();
    assert_eq!((guest.limits().max_messages, guest.limits().max_bytes), (None, None));
    guest.close().unwrap();
}

#[test]
fn a_path_may_be_longer_than_an_address() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("x".repeat(200)).join("y".repeat(200));
    let owner = Options::new(&folder).exclusive(false).open().unwrap();

    let guest = Options::new(&folder).exclusive(false).open().unwrap();

    guest.push("x").unwrap();
    assert_eq!(owner.stats().messages, 1);
}

#[test]
fn a_guest_closes_though_a_task_waits_for_a_message() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let mut context = Context::from_waker(Waker::noop());
    let mut receives = pin!(guest.consumer().unwrap().recv_async());
    assert!(receives.as_mut().poll(&mut context).is_pending());

    guest.close().unwrap();

    assert!(matches!(receives.poll(&mut context), Poll::Ready(Err(Error::Closed))));
    owner.push("x").unwrap();
    assert_eq!(payload(&owner), "x");
}

/// What it took away was room for calls: after 65,536 of them nothing could be said any more.
#[test]
fn a_receive_that_is_called_off_leaves_nothing_behind() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let worker = guest.consumer().unwrap();
    let mut context = Context::from_waker(Waker::noop());

    for _ in 0..70_000 {
        assert!(pin!(worker.recv_async()).poll(&mut context).is_pending());
    }

    guest.push("x").unwrap();
    assert_eq!(payload(&owner), "x");
}

#[test]
fn a_guest_may_hold_so_much_that_its_greeting_is_long() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let worker = guest.consumer().unwrap();
    owner.push_batch((0..40_000).map(|_| "x")).unwrap();
    let mut jobs = Vec::new();
    while jobs.len() < 40_000 {
        jobs.extend(worker.recv_batch(40_000, SOON).unwrap());
    }

    owner.close().unwrap();

    guest.push("y").unwrap();
    for answer in guest.ack_all(jobs).unwrap() {
        answer.unwrap();
    }
    assert_eq!(payload(&guest), "y");
}

/// An answer of 1 GiB could not be made, and one of half of that was not read.
#[test]
fn a_guest_is_lent_long_messages_in_several_batches() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let worker = guest.consumer().unwrap();
    let long = vec![7; 1 << 20];
    owner.push_batch((0..24).map(|_| &long[..])).unwrap();

    let first = worker.recv_batch(24, SOON).unwrap();
    let rest = [worker.recv_batch(24, SOON).unwrap(), worker.recv_batch(24, SOON).unwrap()];

    assert!((8..16).contains(&first.len()), "{}", first.len());
    assert_eq!(first.len() + rest.iter().map(Vec::len).sum::<usize>(), 24);
}

#[test]
fn pushes_that_wait_for_room_keep_nobody_out() {
    let folder = Folder::new();
    let full = WhenFull::Block(Duration::from_secs(60));
    let owner = Options::new(folder.path()).exclusive(false).max_messages(1).when_full(full).open().unwrap();
    let (guest, worker) = (folder.open(), owner.consumer().unwrap());
    owner.push("x").unwrap();
    std::thread::scope(|scope| {
        let (tells, told) = std::sync::mpsc::channel();
        for _ in 0..20 {
            let (guest, tells) = (&guest, tells.clone());
            scope.spawn(move || {
                tells.send(()).unwrap();
                guest.push("y").unwrap();
            });
        }
        told.iter().take(20).for_each(drop);

        for _ in 0..10 {
            folder.open().close().unwrap();
        }

        for _ in 0..21 {
            worker.recv_timeout(SOON).unwrap().expect("a message").ack().unwrap();
        }
    });
}

#[test]
fn the_ticket_of_a_guest_stays_good_though_it_was_answered() {
    let folder = Folder::new();
    let (_owner, guest) = (folder.open(), folder.open());
    let ticket = guest.push_deferred("x").unwrap();

    let offset = ticket.wait_timeout(SOON).unwrap();

    assert_eq!(ticket.wait_timeout(SOON).unwrap(), offset);
    assert_eq!(ticket.wait().unwrap(), offset);
    let job = guest.consumer().unwrap().recv().unwrap();
    let ticket = job.ack_deferred().unwrap();
    ticket.wait_timeout(SOON).unwrap();
    ticket.wait().unwrap();
}

/// The next owner waited for the whole time again, and the guest took it for one that does not answer.
#[test]
fn a_takeover_makes_no_receive_longer() {
    let folder = Folder::new();
    let (owner, guest) = (folder.open(), folder.open());
    let (worker, other) = (guest.consumer().unwrap(), owner.consumer().unwrap());
    let waits = std::thread::spawn(move || worker.recv_timeout(Duration::from_millis(2500)));
    assert!(other.recv_timeout(Duration::from_millis(1500)).unwrap().is_none());

    owner.close().unwrap();

    assert!(waits.join().unwrap().unwrap().is_none());
}
