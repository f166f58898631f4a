//! Does a damaged queue do what it must? Looked at, opened, drained, pushed to, closed, opened again.

use std::collections::BTreeSet;
use std::time::Duration;

use backlog::{Error, Finding, FindingKind, Queue, Recovery};

use super::expect::{Expect, Fate, Opens};
use super::image::{GROUPS, Image, clock, open};
use super::place::Place;

/// What became of cases.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cases: u64,
    /// Openings that refused.
    pub(crate) refused: u64,
    /// Groups that were refused.
    pub(crate) groups: u64,
    /// Messages that were lost and told of.
    pub(crate) lost: u64,
    /// Cases in which something was told to be torn.
    pub(crate) torn: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.refused += other.refused;
        self.groups += other.groups;
        self.lost += other.lost;
        self.torn += other.torn;
    }
}

macro_rules! ensure {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}

/// Goes through a whole life of a damaged queue; an error is what must not be.
pub(crate) fn examine(image: &Image, place: &Place, expect: &Expect) -> Result<Tally, String> {
    let mut tally = Tally { cases: 1, ..Tally::default() };
    let clock = clock();
    let options = place.options(&clock);
    let findings = look(place, &options)?;
    // What must not change is read only where it must not: most damage lets a queue open.
    let before = (expect.opens != Opens::Yes).then(|| place.contents());
    let queue = match open(&options) {
        Ok(queue) => queue,
        Err(error) => {
            ensure!(expect.opens != Opens::Yes, "does not open: {error}");
            let known =
                matches!(error, Error::Refused { .. } | Error::NotAQueue { .. } | Error::Version { .. });
            ensure!(known, "refuses in odd words: {error:?}");
            ensure!(Some(place.contents()) == before, "a refusal changed something");
            ensure!(!is_sound(&findings), "verify found nothing, and opening says {error}");
            tally.refused = 1;
            return Ok(tally);
        }
    };
    ensure!(expect.opens != Opens::No, "opens");
    clock.advance(Duration::from_secs(10));
    let recovery = queue.recovery().clone();
    told(image, expect, &recovery, &findings)?;
    tally.torn = u64::from(recovery.torn_bytes > 0 || recovery.torn_entries > 0);
    let mut working = Vec::new();
    for name in GROUPS {
        if drain(image, place, expect, &queue, name, &mut tally)? {
            working.push(name);
        }
    }
    goes_on(image, &queue, &working)?;
    queue.close().map_err(|error| format!("close: {error}"))?;
    drop(queue);

    let findings = look(place, &options)?;
    for finding in findings.iter().flatten() {
        ensure!(is_known(image, expect, finding), "found only when closed again: {finding}");
    }
    let queue = open(&options).map_err(|error| format!("does not open again: {error}"))?;
    let again = queue.recovery();
    ensure!(again.clean && again.torn_bytes + again.torn_entries == 0, "not clean again: {again:?}");
    ensure!(again.damaged.is_empty() && again.lost.is_empty(), "loss at the next opening: {again:?}");
    ensure!(again.refused_groups.len() + working.len() == GROUPS.len(), "other groups: {again:?}");
    for name in working {
        let consumer = queue.group(name).map_err(|error| format!("{name}: {error}"))?.consumer();
        let next = consumer.try_recv().map_err(|error| format!("{name} again: {error}"))?;
        ensure!(next.is_none(), "{name}: {next:?} comes again");
    }
    queue.close().map_err(|error| format!("close again: {error}"))?;
    Ok(tally)
}

fn is_sound(findings: &Result<Vec<Finding>, Error>) -> bool {
    findings.as_ref().is_ok_and(Vec::is_empty)
}

/// Looks in both ways, and sees that not a byte and no time of change is another.
fn look(place: &Place, options: &backlog::Options) -> Result<Result<Vec<Finding>, Error>, String> {
    let before = place.fingerprint();
    let findings = options.verify();
    let inspection = options.inspect();
    ensure!(place.fingerprint() == before, "looking changed something");
    if let Err(error) = inspection {
        ensure!(!is_sound(&findings), "cannot be inspected, and verify finds nothing: {error}");
    }
    Ok(findings)
}

/// Compares what opening and verifying tell with what must be told.
fn told(
    image: &Image,
    expect: &Expect,
    recovery: &Recovery,
    findings: &Result<Vec<Finding>, Error>,
) -> Result<(), String> {
    let findings = findings.as_ref().map_err(|error| format!("opens, and verify says {error}"))?;
    for (name, error) in &recovery.refused_groups {
        let Some(Fate::Refused { file, at }) = expect.groups.get(&name[..]) else {
            return Err(format!("the group {name} is refused: {error}"));
        };
        let Error::Damaged { path, position, .. } = error else {
            return Err(format!("{name} is refused in odd words: {error:?}"));
        };
        ensure!(path.ends_with(file) && at.contains(position), "{name}: expected {file} {at:?}: {error}");
        let same = |finding: &&Finding| {
            finding.kind == FindingKind::Damaged
                && finding.path == *path
                && finding.position == Some(*position)
        };
        ensure!(findings.iter().any(|finding| same(&finding)), "verify does not tell of {error}");
    }
    for (name, fate) in &expect.groups {
        let refused = recovery.refused_groups.iter().any(|(refused, _)| refused == name);
        ensure!(refused == matches!(fate, Fate::Refused { .. }), "{name}: expected {fate:?}: {recovery:?}");
        if matches!(fate, Fate::Torn { may_be_silent: false, .. }) {
            ensure!(recovery.torn_entries > 0, "{name}: torn entries are not told");
            let group = |finding: &&Finding| {
                finding.kind == FindingKind::Torn && finding.path.ends_with(format!("groups/{name}"))
            };
            ensure!(findings.iter().any(|finding| group(&finding)), "verify tells of no torn entries");
        }
    }
    for offset in &expect.lost {
        let tells = |finding: &&Finding| {
            finding.kind == FindingKind::Damaged
                && is_at(expect, &finding.path, finding.position)
                && finding.offsets.is_some_and(|(first, end)| (first..end).contains(offset))
        };
        ensure!(
            findings.iter().any(|finding| tells(&finding)),
            "verify does not tell of {offset}: {findings:?}"
        );
    }
    if !expect.torn.is_empty() && !expect.may_be_silent {
        ensure!(recovery.torn_bytes > 0, "torn bytes are not told: {recovery:?}");
        let torn = |finding: &&Finding| {
            finding.kind == FindingKind::Torn && is_at(expect, &finding.path, finding.position)
        };
        ensure!(findings.iter().any(|finding| torn(&finding)), "verify tells of nothing torn: {findings:?}");
    }
    for damage in &recovery.damaged {
        ensure!(is_at(expect, &damage.path, Some(damage.position)), "not damaged: {damage:?}");
        only_bad(image, expect, damage.offsets)?;
    }
    let quiet = expect.bad.is_empty() && !image.torn;
    ensure!(!quiet || recovery.torn_bytes == 0 || expect.opens == Opens::Maybe, "told as torn: {recovery:?}");
    for finding in findings {
        let header = matches!(finding.kind, FindingKind::Wounded | FindingKind::Torn | FindingKind::Lost);
        ensure!(header || is_known(image, expect, finding), "nothing is wrong there: {finding}");
    }
    Ok(())
}

/// Tells whether a place is in a batch that is bad, or a run of them.
fn is_at(expect: &Expect, path: &std::path::Path, position: Option<u64>) -> bool {
    let position = position.unwrap_or(u64::MAX);
    expect.bad.iter().any(|bad| path.ends_with(&bad.file) && bad.bytes.contains(&position))
}

/// Sees that no offset is called damaged whose batch is good.
fn only_bad(image: &Image, expect: &Expect, (first, end): (u64, u64)) -> Result<(), String> {
    let bad = |offset: &u64| expect.bad.iter().any(|bad| bad.offsets.contains(offset));
    let good = image.pushed.range(first..end).map(|(offset, _)| *offset).find(|offset| !bad(offset));
    good.map_or(Ok(()), |good| Err(format!("{good} is not damaged, and {first}..{end} is said to be")))
}

/// Tells whether a finding is about what was damaged on purpose.
fn is_known(image: &Image, expect: &Expect, finding: &Finding) -> bool {
    let refused = |fate: &Fate| matches!(fate, Fate::Refused { file, .. } if finding.path.ends_with(file));
    finding.kind == FindingKind::Damaged
        && (expect.groups.values().any(refused)
            || is_at(expect, &finding.path, finding.position)
                && finding.offsets.is_none_or(|offsets| only_bad(image, expect, offsets).is_ok()))
}

/// Receives all that a group has and compares; tells whether the group works.
fn drain(
    image: &Image,
    place: &Place,
    expect: &Expect,
    queue: &Queue,
    name: &str,
    tally: &mut Tally,
) -> Result<bool, String> {
    let fate = &expect.groups[name];
    let group = match queue.group(name) {
        Ok(group) => group,
        Err(Error::Damaged { .. }) if matches!(fate, Fate::Refused { .. }) => {
            tally.groups += 1;
            return Ok(false);
        }
        Err(error) => return Err(format!("{name}: {error}")),
    };
    let consumer = group.consumer();
    // One by one, or many at a time.
    let most = if place.is_real() { 1 } else { 100 };
    let (mut seen, mut damaged) = (BTreeSet::new(), BTreeSet::new());
    for step in 0.. {
        ensure!(step < 1000, "{name} never ends");
        match consumer.recv_batch(most, Duration::ZERO) {
            Ok(jobs) if jobs.is_empty() => break,
            Ok(jobs) => {
                for job in &jobs {
                    let offset = job.offset().get();
                    let text = image.pushed.get(&offset);
                    let same = text.is_some_and(|text| text == job.payload());
                    ensure!(same, "{name}: {offset} was never pushed so");
                    ensure!(seen.insert(offset), "{name}: {offset} twice");
                }
                let acked = queue.ack_all(jobs).map_err(|error| format!("{name}: ack: {error}"))?;
                ensure!(acked.iter().all(Result::is_ok), "{name}: ack: {acked:?}");
            }
            Err(Error::Damaged { path, position, offsets, .. }) => {
                let offsets = offsets.ok_or(format!("{name}: damage without offsets"))?;
                ensure!(is_at(expect, &path, Some(position)), "{name}: not damaged: {path:?} {position}");
                only_bad(image, expect, (offsets.start, offsets.end))?;
                damaged.extend(image.pushed.range(offsets).map(|(offset, _)| *offset));
            }
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    let none = BTreeSet::new();
    let again = if let Fate::Torn { again, .. } = fate { again } else { &none };
    for offset in image.pushed.keys() {
        let ended = image.ended[name].contains(offset);
        let lost = expect.lost.contains(offset) || expect.torn.contains(offset);
        let comes = seen.contains(offset);
        ensure!(!(comes && lost), "{name}: {offset} comes, and its bytes are bad");
        ensure!(!(comes && ended) || again.contains(offset), "{name}: {offset} comes again");
        ensure!(comes || lost || ended, "{name}: {offset} is missing");
        let told = damaged.contains(offset);
        let must = expect.lost.contains(offset) && !ended;
        ensure!(!must || told, "{name}: nobody is told of {offset}: {damaged:?}");
    }
    tally.lost += damaged.len() as u64;
    let stats = group.stats();
    ensure!(stats.ready + stats.on_loan + stats.delayed == 0, "{name}: drained, yet {stats:?}");
    ensure!(stats.dead >= damaged.len() as u64, "{name}: not among the dead letters: {stats:?}");
    Ok(true)
}

/// Pushes more: new offsets, and each group gets just that.
fn goes_on(image: &Image, queue: &Queue, groups: &[&str]) -> Result<(), String> {
    let highest = *image.pushed.keys().next_back().unwrap_or(&0);
    let texts = ["after it, 1", "after it, 2", "after it, 3"];
    let failed = |error: Error| format!("push: {error}");
    let mut offsets = vec![queue.push(texts[0]).map_err(failed)?];
    offsets.extend(queue.push_batch([texts[1], texts[2]]).map_err(failed)?);
    ensure!(offsets[0].get() > highest, "{:?} was given before", offsets[0]);
    ensure!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "offsets fall: {offsets:?}");
    for name in groups {
        let consumer = queue.group(name).map_err(|error| format!("{name}: {error}"))?.consumer();
        for (offset, text) in offsets.iter().zip(texts) {
            let job = consumer.try_recv().map_err(|error| format!("{name}, {text}: {error}"))?;
            let job = job.ok_or(format!("{name}: {text} does not come"))?;
            ensure!(
                job.offset() == *offset && job.payload() == text.as_bytes(),
                "{name}: {job:?} for {text}"
            );
            job.ack().map_err(|error| format!("{name}: ack: {error}"))?;
        }
        let more = consumer.try_recv().map_err(|error| format!("{name}, at the end: {error}"))?;
        ensure!(more.is_none(), "{name}: {more:?} comes at the end");
    }
    Ok(())
}
