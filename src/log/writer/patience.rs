//! Is it worth waiting for those who are about to push again?
//!
//! Who pushes one message at a time is answered together with others, and they come back one after the other. A leader
//! that goes as soon as he can leaves the rest for the next sync: of four, two and two take turns, and half the speed is
//! gone. So he waits a little for those of the last group who have not come back. Whether that pays is seen: what came
//! meanwhile against the time it took. If it did not, it is tried less and less often. (PostgreSQL leaves both to the
//! user, as `commit_delay` and `commit_siblings`.)

use std::time::Duration;

use super::job::{Job, Wish};

/// Nobody waits longer for others: by then they are back, if they come at once.
const LONGEST: Duration = Duration::from_millis(1);
/// Nor does anybody ask more often: a clock that is moved by hand stands still.
const MOST_ASKED: u32 = 1000;
/// Among so many it makes no difference who is missing.
const MANY: usize = 64;
/// So many groups at the most are led without waiting, after it did not pay.
const MOST_SKIPPED: u32 = 1024;

/// What a leader knows of those who pushed last.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Who wanted a sync in the last group, in order.
    last: Vec<u64>,
    /// How long that group took.
    took: Duration,
    /// Since when it is waited, and how many had come by then.
    since: Option<(Duration, usize)>,
    /// How often it was asked meanwhile.
    asked: u32,
    /// So many groups are led without waiting.
    skip: u32,
    penalty: u32,
}

/// Lists who wants a sync, each once, in order.
fn sources(jobs: &[Job]) -> impl Iterator<Item = u64> {
    let synced = jobs.iter().filter(|job| matches!(job.wish, Wish::Push { synced: true, .. }));
    synced.map(|job| job.slot.source).filter(|&source| source != 0)
}

impl Patience {
    /// Tells whether a leader is to let others join; he asks again and again.
    pub(super) fn is_worth(&mut self, jobs: &[Job], now: impl FnOnce() -> Duration) -> bool {
        if self.skip > 0 || self.last.is_empty() || jobs.len() > MANY {
            return false;
        }
        let mut missing = self.last.clone();
        let mut there = 0;
        for source in sources(jobs) {
            there += 1;
            if let Ok(at) = missing.binary_search(&source) {
                missing.remove(at);
            }
        }
        if there == 0 || missing.is_empty() {
            return false;
        }
        let now = now();
        let (since, _) = *self.since.get_or_insert((now, jobs.len()));
        self.asked += 1;
        // Who is there loses the time that he waits, and who comes gains that of a sync. Half of it, for not all may come.
        let missing = u32::try_from(missing.len()).unwrap_or(u32::MAX);
        let most = (self.took / 2).saturating_mul(missing) / there;
        self.asked <= MOST_ASKED && now.saturating_sub(since) < most.min(LONGEST)
    }

    /// Notes who is in the group that is led now.
    pub(super) fn gathered(&mut self, jobs: &[Job], now: impl FnOnce() -> Duration) {
        self.asked = 0;
        self.last.clear();
        if jobs.len() <= MANY {
            self.last.extend(sources(jobs));
            self.last.sort_unstable();
            self.last.dedup();
        }
        match self.since.take() {
            None => self.skip = self.skip.saturating_sub(1),
            Some((since, had)) => {
                let waited = now().saturating_sub(since).as_nanos();
                let came = jobs.len().saturating_sub(had) as u128;
                // So much more in a group that took so much longer.
                if came * self.took.as_nanos() >= had as u128 * waited {
                    self.penalty = 0;
                } else {
                    self.penalty = (self.penalty * 2).clamp(1, MOST_SKIPPED);
                    self.skip = self.penalty;
                }
            }
        }
    }

    /// Notes how long a group with a sync took.
    pub(super) fn took(&mut self, time: Duration) {
        self.took = time;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::slot::Slot;
    use super::*;
    use crate::format::batch::{Encoded, Record};
    use crate::log::room::Pass;

    const SYNC: Duration = Duration::from_micros(100);

    /// Pushes of these, as they came.
    fn jobs(sources: &[u64]) -> Vec<Job> {
        let job = |&source: &u64| {
            let batch = Encoded::new(&[Record { attributes: &[], payload: b"job", tags: 0 }]).unwrap();
            let wish = Wish::Push { batch, rows: Box::default(), synced: true, pass: Pass::Limited };
            Job { wish, slot: Arc::new(Slot::of(source)) }
        };
        sources.iter().map(job).collect()
    }

    /// One that has led for these.
    fn after(sources: &[u64]) -> Patience {
        let mut patience = Patience::default();
        patience.gathered(&jobs(sources), || Duration::ZERO);
        patience.took(SYNC);
        patience
    }

    fn is_worth(patience: &mut Patience, sources: &[u64], micros: u64) -> bool {
        patience.is_worth(&jobs(sources), || Duration::from_micros(micros))
    }

    #[test]
    fn those_of_the_last_group_are_waited_for_until_all_are_back() {
        let mut patience = after(&[1, 2, 3]);
        assert!(is_worth(&mut patience, &[2], 0));
        assert!(is_worth(&mut patience, &[2, 7, 1], 10), "3 is missing, whoever else came");
        assert!(!is_worth(&mut patience, &[2, 7, 1, 3], 20));
    }

    #[test]
    fn a_wait_ends_though_the_clock_stands_still() {
        let mut patience = after(&[1, 2]);

        let asked = (0..).take_while(|_| is_worth(&mut patience, &[1], 0)).take(2000).count();

        assert_eq!(asked, 1000);
    }

    #[test]
    fn the_more_there_are_and_the_fewer_are_missing_the_shorter_is_the_wait() {
        let mut patience = after(&[1, 2, 3, 4]);
        assert!(is_worth(&mut patience, &[1], 0));
        assert!(is_worth(&mut patience, &[1], 149), "three may come, and one waits");
        assert!(!is_worth(&mut patience, &[1], 150));
        assert!(is_worth(&mut patience, &[1, 2, 3], 16), "one may come, and three wait");
        assert!(!is_worth(&mut patience, &[1, 2, 3], 17));
    }

    #[test]
    fn one_does_not_wait_for_one_longer_than_half_a_sync() {
        let mut patience = after(&[1, 2]);
        assert!(is_worth(&mut patience, &[1], 1000));
        assert!(is_worth(&mut patience, &[1], 1049));
        assert!(!is_worth(&mut patience, &[1], 1050));
        // Nor very long, on a slow disk.
        patience.took(Duration::from_millis(10));
        assert!(is_worth(&mut patience, &[1], 1999));
        assert!(!is_worth(&mut patience, &[1], 2000));
    }

    #[test]
    fn who_is_alone_and_who_does_not_wait_for_his_answers_is_never_held_up() {
        assert!(!is_worth(&mut after(&[1]), &[1], 0));
        assert!(!is_worth(&mut after(&[0, 0]), &[0], 0), "nobody knows who that is");
        assert!(!is_worth(&mut after(&[]), &[1], 0));
        assert!(!is_worth(&mut after(&[1, 2]), &[], 0), "nobody wants a sync");
    }

    #[test]
    fn a_wait_that_does_not_pay_is_tried_less_and_less() {
        let mut patience = Patience::default();
        let mut waits = 0;
        for turn in 0..4000 {
            // Two that take turns: whoever was in the last group is not about to push.
            let pushes = [1 + turn % 2];
            waits += u32::from(is_worth(&mut patience, &pushes, 0));
            patience.gathered(&jobs(&pushes), || SYNC / 2);
            patience.took(SYNC);
        }
        assert!((10..=14).contains(&waits), "{waits}");
    }

    #[test]
    fn a_wait_that_pays_is_made_each_time() {
        let mut patience = after(&[1, 2, 3, 4]);
        for _ in 0..100 {
            assert!(is_worth(&mut patience, &[4], 0));
            patience.gathered(&jobs(&[4, 3, 2, 1]), || SYNC / 2);
            patience.took(SYNC);
        }
    }
}
