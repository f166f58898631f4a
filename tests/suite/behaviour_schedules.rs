//! What does a schedule promise, whoever runs it, and whatever the clock does?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backlog::{Error, HeaderValue, Message, MissedTicks, Queue, WhenFull};

use crate::harness::{World, on_both_disks, patiently};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// What the wall clock of a world shows at first is 13 minutes 20 seconds past an hour.
const TO_THE_HOUR: Duration = Duration::from_secs(46 * 60 + 40);

/// Does the duties; returns name and tick, in minutes, of each message that waits by then.
fn ticks(queue: &Queue) -> Vec<(String, i64)> {
    queue.run_duties().unwrap();
    let worker = queue.consumer().unwrap();
    let mut ticks = Vec::new();
    while let Some(job) = worker.try_recv().unwrap() {
        let Some(HeaderValue::Int(tick)) = job.header("tick") else { panic!("no tick") };
        let name = job.header("schedule").unwrap().as_str().unwrap().to_owned();
        assert_eq!(tick % 60_000, 0);
        ticks.push((name, tick / 60_000));
        job.ack().unwrap();
    }
    ticks
}

/// The hour that comes so many hours after the beginning of a world, in minutes.
fn hour(world: &World, begun: u64, hours: i64) -> i64 {
    assert!(world.wall() > 0);
    i64::try_from(begun / 3_600_000).unwrap() * 60 + hours * 60
}

fn hourly(queue: &Queue, missed: MissedTicks) {
    queue.every_with("0 * * * *", "hourly", "work", missed).unwrap();
}

fn minute(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs() / 60).unwrap()
}

on_both_disks! {
    fn a_tick_that_finds_no_room_stays_missed_and_comes_when_there_is_some(world: &World) {
        let begun = world.wall();
        for when_full in [WhenFull::Refuse, WhenFull::Block(HOUR)] {
            let queue = patiently(&world.options().max_messages(1).when_full(when_full));
            hourly(&queue, MissedTicks::One);
            queue.push("full").unwrap();
            world.advance(HOUR);
            // The duties go on, and nobody waits in them.
            queue.run_duties().unwrap();
            queue.consumer().unwrap().recv().unwrap().ack().unwrap();

            let ticks = ticks(&queue);

            let now = i64::try_from((world.wall() - begun + begun % 3_600_000) / 3_600_000).unwrap();
            assert_eq!(ticks, [("hourly".to_owned(), hour(world, begun, now))]);
        }
    }

    fn issue_5_each_tick_is_one_message_however_often_one_looks(world: &World) {
        let begun = world.wall();
        let queue = world.open();
        queue.every("0 * * * *", "hourly", Message::new("report").kind("report/1")).unwrap();

        assert_eq!(ticks(&queue), []);
        world.advance(TO_THE_HOUR - Duration::from_millis(1));
        assert_eq!(ticks(&queue), []);
        world.advance(Duration::from_millis(1));
        assert_eq!(ticks(&queue), [("hourly".to_owned(), hour(world, begun, 1))]);
        assert_eq!(ticks(&queue), []);
        world.advance(HOUR);
        queue.run_duties().unwrap();
        let job = queue.consumer().unwrap().recv().unwrap();
        assert_eq!((job.payload(), job.kind()), (&b"report"[..], Some("report/1")));
        assert!(job.key().is_some());
    }

    fn issue_5_two_openings_in_turn_push_each_tick_once(world: &World) {
        let begun = world.wall();
        let mut found = Vec::new();
        for round in 0..6_u32 {
            let queue = world.open();
            hourly(&queue, MissedTicks::One);
            found.extend(ticks(&queue));
            world.advance(if round == 0 { TO_THE_HOUR } else { HOUR / 2 });
            found.extend(ticks(&queue));
            if round.is_multiple_of(2) { queue.close().unwrap() } else { world.kill() }
        }

        let expected: Vec<_> = (1..=3).map(|hours| ("hourly".to_owned(), hour(world, begun, hours))).collect();
        assert_eq!(found, expected);
    }

    fn issue_5_ticks_that_were_missed_while_nobody_was_there_go_by_the_policy(world: &World) {
        let begun = world.wall();
        for (round, missed) in [MissedTicks::One, MissedTicks::All, MissedTicks::None].into_iter().enumerate() {
            let day = i64::try_from(round).unwrap() * 24;
            let queue = world.open();
            queue.unschedule("hourly").unwrap();
            hourly(&queue, missed);
            queue.close().unwrap();
            world.advance(TO_THE_HOUR + 2 * HOUR + 5 * MINUTE);

            let queue = world.open();
            hourly(&queue, missed);
            let at = |hours| ("hourly".to_owned(), hour(world, begun, day + hours));
            let expected = match missed {
                MissedTicks::One => vec![at(3)],
                MissedTicks::All => vec![at(1), at(2), at(3)],
                MissedTicks::None => vec![],
            };
            assert_eq!(ticks(&queue), expected, "{missed:?}");
            assert_eq!(ticks(&queue), []);
            world.advance(55 * MINUTE);
            assert_eq!(ticks(&queue), [at(4)], "{missed:?}: what comes now is not missed");
            queue.close().unwrap();
            world.advance(21 * HOUR - TO_THE_HOUR);
        }
    }

    fn issue_5_a_clock_that_is_set_back_has_no_tick_twice_and_one_set_forward_misses_some(world: &World) {
        let begun = world.wall();
        let queue = world.open();
        hourly(&queue, MissedTicks::One);

        world.set_wall(TO_THE_HOUR + 10 * HOUR);
        assert_eq!(ticks(&queue), [("hourly".to_owned(), hour(world, begun, 11))], "one for all");
        world.set_wall_before(5 * HOUR);
        assert_eq!(ticks(&queue), []);
        queue.close().unwrap();
        let queue = world.open();
        hourly(&queue, MissedTicks::All);
        assert_eq!(ticks(&queue), []);
        world.set_wall(TO_THE_HOUR + 11 * HOUR);
        assert_eq!(ticks(&queue), [("hourly".to_owned(), hour(world, begun, 12))]);
    }

    fn schedules_of_many_names_go_side_by_side_and_are_listed(world: &World) {
        let begun = world.wall();
        let queue = world.open();
        queue.every("*/30 * * * *", "often", "a").unwrap();
        queue.every("0 * * * *", "hourly", "b").unwrap();

        world.advance(TO_THE_HOUR);
        let found = ticks(&queue);

        let now = hour(world, begun, 1);
        assert_eq!(found, [("hourly".to_owned(), now), ("often".to_owned(), now)]);
        let told = queue.schedules();
        assert_eq!(told.iter().map(|told| &told.name[..]).collect::<Vec<_>>(), ["hourly", "often"]);
        assert_eq!(told[1].expression, "*/30 * * * *");
        assert_eq!((minute(told[0].last.unwrap()), minute(told[0].next.unwrap())), (now, now + 60));
        assert_eq!((minute(told[1].last.unwrap()), minute(told[1].next.unwrap())), (now, now + 30));
    }

    fn a_name_that_is_said_again_replaces_its_schedule_from_now_on(world: &World) {
        let begun = world.wall();
        let queue = world.open();
        hourly(&queue, MissedTicks::All);
        world.advance(TO_THE_HOUR + 3 * HOUR);

        queue.every_with("30 * * * *", "hourly", "other", MissedTicks::All).unwrap();
        assert_eq!(ticks(&queue), [], "ticks of the past are nobody's");
        world.advance(30 * MINUTE);

        assert_eq!(ticks(&queue), [("hourly".to_owned(), hour(world, begun, 4) + 30)]);
        assert_eq!(queue.schedules().len(), 1);
    }

    fn an_ended_schedule_pushes_nothing_and_is_forgotten(world: &World) {
        let queue = world.open();
        hourly(&queue, MissedTicks::All);
        assert!(queue.unschedule("hourly").unwrap());
        assert!(!queue.unschedule("hourly").unwrap());
        world.advance(5 * HOUR);

        assert_eq!((ticks(&queue), queue.schedules()), (vec![], vec![]));
        queue.close().unwrap();
        let queue = world.open();
        assert!(!queue.unschedule("hourly").unwrap());
        hourly(&queue, MissedTicks::All);
        assert_eq!(ticks(&queue), [], "it begins anew");
        assert_eq!(queue.schedules()[0].last, None);
    }

    fn a_schedule_that_cannot_be_is_refused_and_changes_nothing(world: &World) {
        let queue = patiently(&world.options().max_message_bytes(1000));

        for (cron, name) in [("0 3 * *", "a"), ("0 0 30 2 *", "a"), ("0 3 * * *", "A b"), ("0 3 * * *", "")] {
            let refused = queue.every(cron, name, "x").unwrap_err();
            assert!(matches!(refused, Error::Invalid { .. }), "{cron} {name}: {refused}");
        }
        let refused = queue.every("0 3 * * *", "a", vec![0; 1001]).unwrap_err();
        assert!(matches!(refused, Error::TooLarge { .. }), "{refused}");
        assert_eq!(queue.schedules(), []);
        queue.close().unwrap();
        assert!(queue.every("0 3 * * *", "a", "x").unwrap_err().is_closed());
        assert!(queue.unschedule("a").unwrap_err().is_closed());
    }

    fn a_tick_is_pushed_with_what_its_message_asks_for(world: &World) {
        let queue = world.open();
        let message = Message::new("later").delay(HOUR).header("trace", "a1").unique_key("mine");
        queue.every("0 * * * *", "hourly", message).unwrap();
        world.advance(TO_THE_HOUR);

        assert_eq!(ticks(&queue), [], "delayed");
        assert_eq!(queue.stats().messages, 1);
        assert_eq!(queue.discard_key("mine").unwrap(), 0, "its key is that of the tick");
        world.advance(HOUR - MINUTE);
        queue.unschedule("hourly").unwrap();
        world.advance(MINUTE);
        assert_eq!(ticks(&queue).len(), 1);
    }
}
