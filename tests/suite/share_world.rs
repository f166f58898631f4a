//! How do an owner and its guests talk on the simulated disk, and what follows when the owner ends wherever a test wants?
//!
//! One thread carries the bytes, frame by frame. Whoever ends, the guests do what their thread does: they read what
//! reached them, find the next owner, greet it, and send again what has no answer.

use std::time::Duration;

use backlog::testing::{Called, Caller, Folder, ManualClock, Owner, SimDisk, Told};
use backlog::{Options, Queue, Result};

use crate::dice::Dice;

/// Names a guest.
pub(crate) type Who = usize;

/// What ends an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is killed after so many operations of its disk.
    Operation(u64),
    /// It is killed after so many frames were carried; guests read what reached them.
    Frame(u64),
    /// The same; of what was on its way to a guest a piece is lost.
    Lost(u64),
    /// It leaves of its own will after so many frames.
    Leaves(u64),
    /// It stays; all connections end after so many frames.
    Cut(u64),
}

/// A guest with its connection.
#[derive(Debug)]
struct Seat {
    caller: Caller,
    token: usize,
    to_owner: Vec<u8>,
    to_guest: Vec<u8>,
    /// It reads nothing, like a process that is stopped.
    asleep: bool,
}

/// What can be done next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Deliver(Who),
    Work,
    Send(Who),
    Read(Who),
}

/// An owner and its guests.
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    folder: Folder,
    owner: Option<(Queue, Owner)>,
    seats: Vec<Option<Seat>>,
    /// What ends this owner, the next, and so on.
    ends: Vec<End>,
    /// The operation at which this one's disk stops.
    stop: Option<u64>,
    /// Frames that were carried under this owner.
    frames: u64,
    /// How many of the ends have come.
    pub(crate) ended: usize,
    tokens: usize,
    /// Something came that was not worked on.
    dirty: bool,
    order: Option<Dice>,
}

fn frame(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk().map(|length| 8 + u32::from_le_bytes(*length) as usize)?;
    (bytes.len() >= length).then_some(length)
}

impl World {
    /// Opens a queue, and lets guests connect. The order in which things happen is by the seed; 0: one after the
    /// other.
    pub(crate) fn new(guests: usize, ends: &[End], seed: u64) -> Self {
        let clock = ManualClock::new(1_700_000_000_000);
        let folder = Folder::new(&SimDisk::new(1));
        let ends = ends.to_vec();
        let mut world = Self {
            clock,
            folder,
            owner: None,
            seats: Vec::new(),
            ends,
            stop: None,
            frames: 0,
            ended: 0,
            tokens: 0,
            dirty: false,
            order: (seed != 0).then_some(Dice(seed)),
        };
        for _ in 0..guests {
            let caller = Caller::new(&world.folder, &world.clock).unwrap();
            let seat = Seat { caller, token: 0, to_owner: Vec::new(), to_guest: Vec::new(), asleep: false };
            world.seats.push(Some(seat));
        }
        world.open();
        world
    }

    pub(crate) fn options(&self) -> Options {
        let options = Options::new("jobs").sim_disk(&self.folder.disk()).manual_clock(&self.clock);
        options.threads(false).segment_bytes(8 << 10).max_message_bytes(4096)
    }

    pub(crate) fn guest(&self, who: Who) -> &Caller {
        &self.seats[who].as_ref().expect("it lives").caller
    }

    /// Lets a guest read nothing for a while, or go on.
    pub(crate) fn sleep(&mut self, who: Who, asleep: bool) {
        self.seats[who].as_mut().expect("it lives").asleep = asleep;
    }

    /// Kills a guest.
    pub(crate) fn die(&mut self, who: Who) {
        let seat = self.seats[who].take().expect("it lives");
        seat.caller.die();
        if let Some((_, owner)) = &mut self.owner {
            owner.went(seat.token);
        }
        self.dirty = true;
    }

    /// Ends a guest of its own will.
    pub(crate) fn leave(&mut self, who: Who) {
        self.settle();
        let _leaving = self.guest(who).leave();
        self.settle();
        // It may have been an owner's last frame that said so: its process ends all the same.
        self.die(who);
        self.settle();
    }

    /// Goes on until nothing more happens.
    pub(crate) fn settle(&mut self) {
        while self.step() {}
    }

    /// Goes on until a call is answered; time goes by where nothing else happens.
    pub(crate) fn answer(&mut self, called: &Called) -> Result<Told> {
        for _ in 0..10_000 {
            if let Some(answer) = called.answer("work") {
                return answer;
            }
            if !self.step() {
                self.clock.advance(Duration::from_millis(10));
                self.dirty = true;
            }
        }
        panic!("no answer");
    }

    /// Lets time go by.
    pub(crate) fn advance(&mut self, time: Duration) {
        self.clock.advance(time);
        self.dirty = true;
        self.settle();
    }

    /// Closes the queue, without guests, and opens it for whoever looks; tells how many ends have come.
    pub(crate) fn ends(mut self) -> (Queue, usize) {
        assert!(self.seats.iter().all(Option::is_none), "somebody is still there");
        self.ends.truncate(1);
        self.hand_over(true, false);
        self.folder.disk().heal();
        (self.owner.take().expect("it was opened").0, self.ended)
    }

    /// Opens the queue until an opening comes to its end, and has every guest greet it.
    fn open(&mut self) {
        loop {
            self.frames = 0;
            self.stop = None;
            let disk = self.folder.disk();
            if let Some(&End::Operation(after)) = self.ends.first() {
                self.stop = Some(disk.ops() + after);
                disk.stop_after(disk.ops() + after);
            }
            match self.options().open() {
                Ok(queue) if !self.is_stopped() => {
                    let owner = Owner::of(&queue).unwrap();
                    self.owner = Some((queue, owner));
                    break;
                }
                Ok(_) | Err(_) if self.is_stopped() => {
                    self.folder.kill();
                    self.ended();
                }
                other => panic!("nobody can open the queue after {} ends: {other:?}", self.ended),
            }
        }
        let mut guests: Vec<Who> = (0..self.seats.len()).collect();
        if let Some(dice) = &mut self.order {
            let first = dice.size(guests.len() as u64);
            guests.rotate_left(first);
        }
        for who in guests {
            self.connect(who);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| self.folder.disk().ops() >= stop)
    }

    fn connect(&mut self, who: Who) {
        let (Some(seat), Some((_, owner))) = (&mut self.seats[who], &mut self.owner) else { return };
        self.tokens += 1;
        seat.token = self.tokens;
        seat.asleep = false;
        seat.to_guest.clear();
        seat.to_owner = seat.caller.greet().unwrap();
        owner.came(seat.token);
    }

    /// Ends a connection, and has the guest come again.
    fn again(&mut self, who: Who) {
        let (Some(seat), Some((_, owner))) = (&mut self.seats[who], &mut self.owner) else { return };
        owner.went(seat.token);
        seat.caller.disconnected();
        self.connect(who);
    }

    /// Has a guest come again, if the owner ends its connection.
    fn part(&mut self, who: Who) {
        let (Some(seat), Some((_, owner))) = (&mut self.seats[who], &mut self.owner) else { return };
        if owner.is_over(seat.token) && owner.outgoing(seat.token).is_empty() {
            let _ = seat.caller.hear(&std::mem::take(&mut seat.to_guest)).unwrap();
            self.again(who);
        }
    }

    /// Ends this owner, and lets the next one be found.
    fn hand_over(&mut self, clean: bool, lost: bool) {
        let Some((queue, mut owner)) = self.owner.take() else { return };
        if clean && owner.close().is_ok() && !self.is_stopped() {
            for seat in self.seats.iter_mut().flatten() {
                seat.to_guest.extend_from_slice(owner.outgoing(seat.token));
            }
        } else {
            self.folder.kill();
            if clean {
                // Killed while it left.
                self.ended();
            }
        }
        drop((queue, owner));
        for seat in self.seats.iter_mut().flatten() {
            if lost {
                let kept = self.order.as_mut().map_or(0, |dice| dice.size(seat.to_guest.len() as u64 + 1));
                seat.to_guest.truncate(kept);
            }
            seat.caller.hear(&seat.to_guest).unwrap();
            seat.caller.disconnected();
        }
        self.open();
    }

    /// Ends this owner as it was to end.
    fn end(&mut self, clean: bool, lost: bool) {
        self.ended();
        self.hand_over(clean, lost);
    }

    fn ended(&mut self) {
        self.ended += 1;
        self.ends.remove(0);
        self.stop = None;
    }

    /// Does one thing; tells whether there was anything to do.
    fn step(&mut self) -> bool {
        let acts = self.acts();
        let act = match &mut self.order {
            _ if acts.is_empty() => return false,
            None => acts[0],
            Some(dice) => acts[dice.size(acts.len() as u64)],
        };
        self.act(act);
        if self.is_stopped() {
            self.end(false, false);
            return true;
        }
        for who in 0..self.seats.len() {
            self.part(who);
        }
        match self.ends.first() {
            Some(&End::Frame(after)) if self.frames == after => self.end(false, false),
            Some(&End::Lost(after)) if self.frames == after => self.end(false, true),
            Some(&End::Leaves(after)) if self.frames == after => self.end(true, false),
            Some(&End::Cut(after)) if self.frames == after => {
                self.ended();
                (0..self.seats.len()).for_each(|who| self.again(who));
            }
            _ => {}
        }
        true
    }

    fn acts(&mut self) -> Vec<Act> {
        let Some((_, owner)) = &self.owner else { return Vec::new() };
        let mut acts = Vec::new();
        for (who, seat) in self.seats.iter_mut().enumerate() {
            let Some(seat) = seat else { continue };
            seat.to_owner.extend(seat.caller.said());
            if frame(&seat.to_owner).is_some() && owner.wants(seat.token) {
                acts.push(Act::Deliver(who));
            }
        }
        if self.dirty {
            acts.push(Act::Work);
        }
        for (who, seat) in self.seats.iter().enumerate() {
            let Some(seat) = seat else { continue };
            if frame(owner.outgoing(seat.token)).is_some() {
                acts.push(Act::Send(who));
            }
            if !seat.asleep && frame(&seat.to_guest).is_some() {
                acts.push(Act::Read(who));
            }
        }
        acts
    }

    fn act(&mut self, act: Act) {
        let Some((_, owner)) = &mut self.owner else { return };
        let seats = &mut self.seats;
        match act {
            Act::Work => {
                // Until there is nothing more: what it did may have woken others.
                self.dirty = owner.work();
                return;
            }
            Act::Deliver(who) => {
                let seat = seats[who].as_mut().expect("it lives");
                let length = frame(&seat.to_owner).expect("it was seen");
                let bytes: Vec<u8> = seat.to_owner.drain(..length).collect();
                owner.received(seat.token, &bytes);
                self.dirty = true;
            }
            Act::Send(who) => {
                let seat = seats[who].as_mut().expect("it lives");
                let outgoing = owner.outgoing(seat.token);
                let length = frame(outgoing).expect("it was seen");
                seat.to_guest.extend_from_slice(&outgoing[..length]);
                owner.sent(seat.token, length);
                self.dirty = true;
            }
            Act::Read(who) => {
                let seat = seats[who].as_mut().expect("it lives");
                let length = frame(&seat.to_guest).expect("it was seen");
                let bytes: Vec<u8> = seat.to_guest.drain(..length).collect();
                if !seat.caller.hear(&bytes).unwrap() {
                    self.again(who);
                }
            }
        }
        self.frames += 1;
    }
}
