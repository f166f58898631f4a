//! Which promises does a shared commit keep, whoever runs when?
//!
//! `BACKLOG_SCHEDULES=100000` tries more orders of each, by two kinds of scheduler.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::thread;

use super::slot::Slot;
use super::wake::{Bell, Wake};
use super::worker::{Disk, Hand, Job, Line, Trouble, add, lead_for_deferred, line, push};
use crate::error::{Error, Result};
use crate::offset::Offsets;
use crate::plant::{Plant, plant};

/// In how many orders each check runs, by each scheduler.
fn schedules() -> usize {
    std::env::var("BACKLOG_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1500)
}

/// Runs a check in many orders: any thread at any time, and by priorities that change now and then.
pub(super) fn in_any_order(check: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(check.clone(), schedules());
    shuttle::check_pct(check, schedules(), 3);
}

/// Tells whether some order makes a check fail that has a bug planted. All threads of a check are run
/// by the one that calls this: the bug is there for each of them.
pub(super) fn is_found(bug: Plant, check: impl Fn() + Send + Sync + Clone + 'static) -> bool {
    let _planted = plant(bug);
    catch_unwind(AssertUnwindSafe(|| in_any_order(check))).is_err()
}

/// What one thread was told of its own job: never another's, and never yes before the sync.
pub(super) fn believe(disk: &Mutex<Disk>, number: u64, told: &Result<Offsets>) {
    match told {
        Ok(offsets) => {
            assert_eq!((offsets.end(), offsets.len()), (number + 1, 1), "somebody else's answer");
            assert!(disk.lock().unwrap().synced.contains(&number), "{number} is not synced");
        }
        Err(Error::Poisoned { .. } | Error::Closed) => {}
        Err(error) => panic!("{number}: {error}"),
    }
}

/// Threads that push, each `count` times; all of them come back.
pub(super) fn pushers(
    line: &Arc<Line>,
    disk: &Arc<Mutex<Disk>>,
    threads: u64,
    count: u64,
) -> Vec<thread::JoinHandle<u64>> {
    let pusher = |thread: u64| {
        let (line, disk) = (line.clone(), disk.clone());
        thread::spawn(move || {
            let clock = Hand::default();
            let mut stored = 0;
            for number in thread * count..(thread + 1) * count {
                // Whoever leads a writer that panics, panics; the others are answered.
                match catch_unwind(AssertUnwindSafe(|| push(&line, &clock, number))) {
                    Ok(told) => {
                        believe(&disk, number, &told);
                        stored += u64::from(told.is_ok());
                    }
                    Err(_) => assert!(line.lock().stopped.is_some(), "a panic that poisons nothing"),
                }
            }
            stored
        })
    };
    (0..threads).map(pusher).collect()
}

pub(super) fn all_back(threads: Vec<thread::JoinHandle<u64>>) -> u64 {
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}

fn push_from_all_sides(trouble: Trouble) {
    let (line, disk) = line(trouble);

    let stored = all_back(pushers(&line, &disk, 3, 2));

    let disk = disk.lock().unwrap();
    let mut written = disk.written.clone();
    written.sort_unstable();
    written.dedup();
    assert_eq!(written.len(), disk.written.len(), "a job was written twice");
    assert!(disk.synced.len() as u64 >= stored);
    if trouble.sync_fails.is_none() && trouble.panics.is_none() {
        assert_eq!((stored, disk.written.len()), (6, 6));
    }
    assert!(line.lock().is_idle(), "the writer was never given back");
}

#[test]
fn every_push_gets_its_own_answer_and_only_after_the_sync() {
    in_any_order(|| push_from_all_sides(Trouble::default()));
}

#[test]
fn a_failed_sync_answers_everybody_and_nothing_is_stored_after_it() {
    for group in 1..4 {
        let trouble = Trouble { sync_fails: Some(group), panics: None };
        in_any_order(move || push_from_all_sides(trouble));
    }
}

#[test]
fn a_leader_that_panics_leaves_a_poisoned_writer_and_everybody_is_answered() {
    for group in 1..3 {
        let trouble = Trouble { sync_fails: None, panics: Some(group) };
        in_any_order(move || push_from_all_sides(trouble));
    }
}

/// Time is over for some while others wait on.
fn some_stop_waiting() {
    let (line, disk) = line(Trouble::default());
    let clock = Arc::new(Hand::default());
    let mut threads = pushers(&line, &disk, 2, 1);
    for number in 10..12 {
        let (line, disk, clock) = (line.clone(), disk.clone(), clock.clone());
        threads.push(thread::spawn(move || {
            let (slot, group) = add(&line, number).unwrap();
            let until = Some(Duration::from_secs(1));
            let (_, told) = line.until(line.lock(), group, &*clock, until, |_| slot.answer());
            if let Some(told) = &told {
                believe(&disk, number, told);
            }
            u64::from(told.is_some())
        }));
    }
    let hand = thread::spawn(move || clock.advance(Duration::from_secs(2), &line));

    all_back(threads);

    hand.join().unwrap();
}

#[test]
fn who_stops_waiting_leaves_nobody_behind() {
    in_any_order(some_stop_waiting);
}

/// All wait for the end of one group's work by a word in the shared state, as acks do.
fn wait_for_a_word() {
    let (line, _) = line(Trouble { sync_fails: Some(1), panics: None });
    let threads = (0..4).map(|number| {
        let line = line.clone();
        thread::spawn(move || {
            let clock = Hand::default();
            let mut guard = line.lock();
            if guard.stopped.is_some() {
                return 0;
            }
            guard.jobs.push(Job { number, slot: Arc::default() });
            let group = guard.group();
            let (_, told) = line.until(guard, group, &clock, None, |guard| guard.stopped.clone());
            u64::from(told.is_some())
        })
    });

    let threads: Vec<_> = threads.collect();

    all_back(threads);
}

/// The sync of one group failed while several threads waited for the next: one of them was woken to
/// lead, saw the failure, and left without a word. The others waited for ever.
#[test]
fn issue_4_who_is_woken_to_lead_and_need_not_wakes_the_next() {
    in_any_order(wait_for_a_word);
}

/// What an executor leaves with a ticket.
#[derive(Default)]
pub(super) struct Woken(pub(super) Bell);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// Polls until there is an answer, as an executor does.
fn poll(slot: &Slot, hurry: impl Fn()) -> Result<Offsets> {
    let woken = Arc::new(Woken(Bell::default()));
    let waker = Waker::from(woken.clone());
    let mut heard = 0;
    loop {
        if let Some(answer) = slot.answer() {
            return answer;
        }
        slot.leave(&waker);
        if let Some(answer) = slot.answer() {
            return answer;
        }
        hurry();
        heard = woken.0.wait(heard, None);
    }
}

/// A committer, and who has it lead; ends when it is told to.
struct Committer {
    deferred: Bell,
    urgent: Bell,
    stop: AtomicBool,
}

/// Tickets that are polled, and one that nobody waits for, beside pushes that wait.
fn deferred_beside_pushes() {
    let (line, disk) = line(Trouble::default());
    let committer = Arc::new(Committer {
        deferred: Bell::default(),
        urgent: Bell::default(),
        stop: AtomicBool::new(false),
    });
    let leads = {
        let (line, committer) = (line.clone(), committer.clone());
        // As `commit_deferred`, where ten milliseconds are over as soon as somebody rings.
        thread::spawn(move || {
            let (mut heard, mut hurried) = (0, 0);
            while !committer.stop.load(Ordering::Acquire) {
                heard = committer.deferred.wait(heard, None);
                hurried = committer.urgent.wait(hurried, None);
                lead_for_deferred(&line, &Hand::default());
            }
        })
    };
    let mut threads = pushers(&line, &disk, 1, 2);
    for number in 10..12 {
        let (line, disk, committer) = (line.clone(), disk.clone(), committer.clone());
        threads.push(thread::spawn(move || {
            let (slot, _) = add(&line, number).unwrap();
            committer.deferred.wake();
            let told = poll(&slot, || {
                committer.urgent.wake();
                committer.deferred.wake();
            });
            believe(&disk, number, &told);
            1
        }));
    }
    let (unwaited, _) = add(&line, 20).unwrap();
    committer.deferred.wake();
    committer.urgent.wake();

    all_back(threads);

    committer.stop.store(true, Ordering::Release);
    committer.urgent.wake();
    committer.deferred.wake();
    leads.join().unwrap();
    believe(&disk, 20, &unwaited.answer().expect("a ticket that nobody waits for was not written"));
}

#[test]
fn polled_tickets_are_woken_and_one_that_nobody_waits_for_is_written() {
    in_any_order(deferred_beside_pushes);
}

/// Several see to it that deferred pushes are written, as the committer does beside `run_duties`.
fn several_lead_for_deferred() {
    let (line, disk) = line(Trouble::default());
    let mut threads = pushers(&line, &disk, 2, 2);
    for number in 10..12 {
        let line = line.clone();
        threads.push(thread::spawn(move || {
            let (_, _) = add(&line, number).unwrap();
            lead_for_deferred(&line, &Hand::default());
            1
        }));
    }

    all_back(threads);

    assert_eq!(disk.lock().unwrap().written.len(), 6);
}

/// What they wait for came true in the middle of somebody's work, and was untrue again when they
/// looked; the group they waited for was long over, and nobody woke them for the one that they were
/// in by then.
#[test]
fn issue_4_who_sees_to_deferred_pushes_is_not_left_behind_by_the_next() {
    in_any_order(several_lead_for_deferred);
}

/// Wishes that somebody else's work takes away, so that they are to be made again: as acks do whose
/// wish to sync went with a switch.
fn wish_again() {
    let (line, _) = line(Trouble::default());
    let threads = (0..3).map(|number| {
        let line = line.clone();
        thread::spawn(move || {
            let mut seen = 0;
            let guard = line.lock();
            let group = guard.group();
            drop(line.until(guard, group, &Hand::default(), None, |guard| {
                let now = guard.group();
                if now < group + 2 && seen <= now {
                    guard.jobs.push(Job { number: number * 10 + now, slot: Arc::default() });
                    seen = now + 1;
                }
                (now >= group + 2).then_some(())
            }));
            1
        })
    });

    let threads: Vec<_> = threads.collect();

    all_back(threads);
}

#[test]
fn issue_4_who_wishes_again_waits_for_the_group_that_the_wish_is_in() {
    in_any_order(wish_again);
}

/// Leads for others whenever it is rung for; ends when it is told to.
pub(super) fn leads_when_rung(line: &Arc<Line>, rung: &Arc<(Bell, AtomicBool)>) -> thread::JoinHandle<()> {
    let (line, rung) = (line.clone(), rung.clone());
    thread::spawn(move || {
        let mut heard = 0;
        while !rung.1.load(Ordering::Acquire) {
            heard = rung.0.wait(heard, None);
            lead_for_deferred(&line, &Hand::default());
        }
    })
}

/// Threads that wait with a deadline follow, and leave leading to a committer, beside pushes that wait;
/// with `late` the time of some is over meanwhile.
fn deadlines_beside_pushes(late: bool) {
    let (line, disk) = line(Trouble::default());
    let clock = Arc::new(Hand::default());
    let committer = Arc::new((Bell::default(), AtomicBool::new(false)));
    let leads = leads_when_rung(&line, &committer);
    let mut threads = pushers(&line, &disk, 2, 1);
    for number in 10..12 {
        let (line, disk, clock, committer) = (line.clone(), disk.clone(), clock.clone(), committer.clone());
        threads.push(thread::spawn(move || {
            let (slot, _) = add(&line, number).unwrap();
            committer.0.wake();
            let told = line.follow(line.lock(), &*clock, Duration::from_secs(1), |_| slot.answer());
            assert!(late || told.is_some(), "nobody's time was over");
            if let Some(told) = &told {
                believe(&disk, number, told);
            }
            1
        }));
    }
    if late {
        clock.advance(Duration::from_secs(2), &line);
    }

    all_back(threads);

    committer.1.store(true, Ordering::Release);
    committer.0.wake();
    leads.join().unwrap();
    // What somebody stopped waiting for is written all the same.
    lead_for_deferred(&line, &Hand::default());
    assert_eq!(disk.lock().unwrap().synced.len(), 4);
}

#[test]
fn who_waits_with_a_deadline_leads_never_and_is_answered() {
    in_any_order(|| deadlines_beside_pushes(false));
}

#[test]
fn a_deadline_that_is_over_leaves_nobody_behind() {
    in_any_order(|| deadlines_beside_pushes(true));
}

#[test]
fn followers_that_nobody_wakes_are_found() {
    assert!(is_found(Plant::FollowersForgotten, || deadlines_beside_pushes(false)));
}

/// As `engine::close`: what waits is written, the rest refused, and the writer is gone.
fn close_amid_pushes() {
    let (line, disk) = line(Trouble::default());
    let (slot, _) = add(&line, 100).unwrap();
    let threads = pushers(&line, &disk, 3, 2);
    let last = Arc::new(Slot::default());
    let mut guard = line.lock();
    guard.stopped = Some(Error::Closed);
    guard.jobs.push(Job { number: 200, slot: last.clone() });
    let group = guard.group();
    let (guard, told) = line.until(guard, group, &Hand::default(), None, |_| last.answer());
    drop(guard);
    believe(&disk, 200, &told.expect("no deadline"));

    let writer = line.retire(|_| false);

    assert!(writer.is_some());
    assert!(line.lock().jobs.is_empty(), "somebody waits for a writer that is gone");
    all_back(threads);
    believe(&disk, 100, &slot.answer().expect("what waited was not written"));
}

#[test]
fn closing_answers_everybody_and_gets_the_writer() {
    in_any_order(close_amid_pushes);
}

#[test]
fn a_ring_of_the_bell_is_never_missed() {
    in_any_order(|| {
        let bell = Arc::new(Bell::default());
        let ringers = (0..2).map(|_| {
            let bell = bell.clone();
            thread::spawn(move || bell.wake())
        });
        let ringers: Vec<_> = ringers.collect();
        let mut heard = 0;
        while heard < 2 {
            let now = bell.wait(heard, None);
            assert!(now > heard, "woken for nothing");
            heard = now;
        }
        ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
        assert_eq!(bell.count(), 2);
    });
}

#[test]
fn waking_the_group_that_was_read_too_early_is_found() {
    assert!(is_found(Plant::GroupReadEarly, || push_from_all_sides(Trouble::default())));
}

#[test]
fn a_leader_that_is_dropped_without_a_word_is_found() {
    let trouble = Trouble { sync_fails: None, panics: Some(1) };

    assert!(is_found(Plant::SilentLeader, move || push_from_all_sides(trouble)));
}

#[test]
fn counts_of_who_waits_that_are_read_too_early_are_found() {
    assert!(is_found(Plant::CountsReadEarly, || push_from_all_sides(Trouble::default())));
}

#[test]
fn one_who_is_woken_to_lead_and_tells_nobody_is_found() {
    assert!(is_found(Plant::WakeupKept, wait_for_a_word));
}
