//! Is every call of a guest answered, whoever reads, and does its thread get the connection when it must?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::checks::{Woken, in_any_order, is_found};
use super::wake::Bell;
use super::worker::Hand;
use super::{clock, sync};
use crate::plant::Plant;

#[expect(dead_code, reason = "some of it is for calls that nobody waits for any more")]
#[expect(clippy::duplicate_mod, reason = "the same code over other locks is the point")]
#[path = "../share/slot.rs"]
mod slot;

#[expect(dead_code, reason = "a full socket is the other need")]
#[expect(clippy::duplicate_mod, reason = "the same code over other locks is the point")]
#[path = "../share/desk.rs"]
mod desk;

use desk::{Connection, Desk};
use slot::Slot;

/// What has come from the owner.
#[derive(Default)]
struct Pipe {
    come: Mutex<Come>,
    more: Condvar,
}

#[derive(Default)]
struct Come {
    answers: Vec<u64>,
    over: bool,
    rung: bool,
}

impl Pipe {
    fn change(&self, change: impl FnOnce(&mut Come)) {
        change(&mut self.come.lock().unwrap());
        self.more.notify_all();
    }

    fn ring(&self) {
        self.change(|come| come.rung = true);
    }
}

struct Link {
    pipe: Arc<Pipe>,
    over: bool,
}

impl Connection for Link {
    fn is_over(&self) -> bool {
        self.over
    }
}

/// A guest, as far as it matters who reads.
struct Guest {
    desk: Desk<Link, u64>,
    calls: Mutex<BTreeMap<u64, Arc<Slot<u64>>>>,
    pipe: Arc<Pipe>,
    closed: AtomicBool,
}

impl Guest {
    /// As `share/reading` does it.
    fn read_until(&self, link: &mut Link, done: impl Fn() -> bool) {
        loop {
            let (answers, over) = {
                let mut come = link.pipe.come.lock().unwrap();
                (std::mem::take(&mut come.answers), come.over)
            };
            for number in answers {
                let slot = self.calls.lock().unwrap().remove(&number);
                slot.map(|slot| slot.answer(number));
            }
            link.over = over;
            if link.over || done() {
                return;
            }
            let mut come = link.pipe.come.lock().unwrap();
            while come.answers.is_empty() && !come.over && !std::mem::take(&mut come.rung) {
                come = link.pipe.more.wait(come).unwrap();
            }
        }
    }

    /// Makes a call.
    fn begin(&self, number: u64) -> Arc<Slot<u64>> {
        let slot = Arc::new(Slot::default());
        self.calls.lock().unwrap().insert(number, slot.clone());
        slot
    }

    /// As `share/answer` does it.
    fn wait(&self, number: u64, slot: &Arc<Slot<u64>>, stop: &AtomicBool) -> Option<u64> {
        let stopped = || stop.load(Ordering::SeqCst);
        loop {
            if let Some(answer) = slot.take() {
                return Some(answer);
            }
            if stopped() {
                return None;
            }
            if let Some(mut seat) = self.desk.come(number, slot) {
                self.read_until(seat.link.as_mut().unwrap(), || slot.is_answered() || stopped());
                continue;
            }
            slot.wait(&Hand::default(), None, stopped);
            self.desk.left(number);
        }
    }

    /// As a task does.
    fn poll(&self, slot: &Slot<u64>) -> u64 {
        let woken = Arc::new(Woken(Bell::default()));
        let waker = Waker::from(woken.clone());
        let (mut heard, mut polled) = (0, false);
        loop {
            if let Some(answer) = slot.take_or_leave(&waker) {
                if polled {
                    self.desk.no_need();
                }
                return answer;
            }
            if !std::mem::replace(&mut polled, true) {
                self.desk.need();
            }
            heard = woken.0.wait(heard, None);
        }
    }

    /// As `share/succession` does it; the next owner answers all that has no answer.
    fn stay(&self, mut link: Link) {
        loop {
            self.read_until(&mut link, || self.desk.is_wanted());
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            if !link.over {
                link = self.desk.leave_to_others(link);
                continue;
            }
            let open: Vec<u64> = self.calls.lock().unwrap().keys().copied().collect();
            self.pipe.change(|come| *come = Come { answers: open, ..Come::default() });
            link.over = false;
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.desk.close();
        self.pipe.ring();
    }
}

const CALLERS: u64 = 2;

fn guest() -> (Arc<Guest>, Arc<Pipe>) {
    let pipe = Arc::new(Pipe::default());
    let (desk, calls, closed) = (Desk::default(), Mutex::default(), AtomicBool::new(false));
    (Arc::new(Guest { desk, calls, pipe: pipe.clone(), closed }), pipe)
}

/// Callers and a task wait; an owner answers some, and goes.
fn callers_and_a_task(goes: bool, stops: bool) {
    let (guest, pipe) = guest();
    let spawn = |work: Box<dyn FnOnce(&Guest) + Send>| {
        let guest = guest.clone();
        thread::spawn(move || work(&guest))
    };
    let link = Link { pipe: pipe.clone(), over: false };
    let stays = spawn(Box::new(|guest| guest.stay(link)));
    let slots: Vec<_> = (0..=CALLERS).map(|number| guest.begin(number)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut waiting = Vec::new();
    for (number, slot) in (0..CALLERS).zip(slots.iter().cloned()) {
        let stop = if number == 0 { stop.clone() } else { Arc::default() };
        waiting.push(spawn(Box::new(move |guest| {
            let answer = guest.wait(number, &slot, &stop);
            assert!(answer == Some(number) || stops && number == 0, "{answer:?}");
        })));
    }
    let polled = slots.last().unwrap().clone();
    waiting.push(spawn(Box::new(move |guest| assert_eq!(guest.poll(&polled), CALLERS))));
    waiting.push(spawn(Box::new(move |_| {
        for number in (0..=CALLERS).rev() {
            if goes && number == 1 {
                pipe.change(|come| come.over = true);
                return;
            }
            // One that is stopped has no answer.
            if !(stops && number == 0) {
                pipe.change(|come| come.answers.push(number));
            }
        }
    })));
    if stops {
        stop.store(true, Ordering::SeqCst);
        slots[0].ring();
        guest.pipe.ring();
    }
    waiting.into_iter().for_each(|thread| thread.join().unwrap());
    guest.close();
    stays.join().unwrap();
}

/// A task waits when nobody has read for some time: the thread has left that to those who call, and none does.
fn a_task_behind_a_caller() {
    let (guest, pipe) = guest();
    let (stays, link) = (guest.clone(), Link { pipe: pipe.clone(), over: false });
    let stays = thread::spawn(move || stays.stay(link));
    let (called, polled) = (guest.begin(0), guest.begin(1));
    let caller = guest.clone();
    let caller = thread::spawn(move || caller.wait(0, &called, &AtomicBool::new(false)));
    pipe.change(|come| come.answers.push(0));
    assert_eq!(caller.join().unwrap(), Some(0));
    let task = guest.clone();
    let task = thread::spawn(move || task.poll(&polled));
    pipe.change(|come| come.answers.push(1));
    assert_eq!(task.join().unwrap(), 1);
    guest.close();
    stays.join().unwrap();
}

#[test]
fn whoever_reads_each_call_is_answered_and_the_thread_ends() {
    in_any_order(|| callers_and_a_task(false, false));
    in_any_order(a_task_behind_a_caller);
}

#[test]
fn an_owner_that_goes_is_noticed_by_the_thread_whoever_reads() {
    in_any_order(|| callers_and_a_task(true, false));
}

#[test]
fn one_that_is_stopped_leaves_the_connection_to_others() {
    in_any_order(|| callers_and_a_task(false, true));
}

#[test]
fn one_that_leaves_without_saying_whose_turn_it_is_is_found() {
    assert!(is_found(Plant::TurnKept, || callers_and_a_task(false, true)));
}

#[test]
fn one_that_puts_the_connection_back_in_silence_is_found() {
    assert!(is_found(Plant::LinkBackInSilence, || callers_and_a_task(true, false)));
}

#[test]
fn a_task_that_nobody_is_told_of_is_found() {
    assert!(is_found(Plant::TaskNotTold, a_task_behind_a_caller));
}
