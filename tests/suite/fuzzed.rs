//! What does each fuzz target do with its bytes?
//!
//! One body for the fuzzers in `fuzz/` and for the replay of their corpora (`corpora`). A body
//! panics where a promise is broken, and returns otherwise, whatever the bytes.

use backlog::testing::bytes;

use crate::choices::{Bytes, Choices, fault, setup, step};
use crate::fuzzed_folder;
use crate::fuzzed_socket;
use crate::ledger::{End, Verdict};
use crate::script::{Run, Trouble};
use crate::step::Step;

/// A target: its name, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets.
pub(crate) const TARGETS: [Target; 8] = [
    ("batch", batch),
    ("segment_header", segment_header),
    ("manifest", manifest),
    ("offsets", offsets),
    ("folder", fuzzed_folder::folder),
    ("operations", operations),
    ("socket", fuzzed_socket::socket),
    ("answers", fuzzed_socket::answers),
];

/// In the first byte of a file's input: checksums are made right.
pub(crate) const FORGED: u8 = 1;
/// And: the second copy of the header is made like the first.
pub(crate) const MIRRORED: u8 = 2;

/// The longest file that an input is blown up to.
const LONGEST: u64 = 1 << 16;
/// The most steps of a run.
const MOST_STEPS: usize = 150;

/// A batch at byte 4096 of a segment with salt 7, behind a byte of flags.
fn batch(data: &[u8]) {
    let Some((flags, lies)) = data.split_first() else { return };
    let mut lies = lies.to_vec();
    if flags & FORGED != 0 {
        bytes::forge_batch(&mut lies);
    }
    let _ = bytes::batch(&lies);
}

fn segment_header(data: &[u8]) {
    let _ = bytes::segment_header(&file("log/000000001.seg", data));
}

fn manifest(data: &[u8]) {
    let _ = bytes::manifest(&file("MANIFEST", data));
}

fn offsets(data: &[u8]) {
    let _ = bytes::offsets(&file("groups/mailer/1.offsets", data));
}

/// Blows an input up to a file: flags, its length, then again and again how many zeros, how many
/// bytes, and these. Files of a queue are mostly zeros, which a fuzzer would waste its time on.
pub(crate) fn file(name: &str, data: &[u8]) -> Vec<u8> {
    let mut input = Bytes(data);
    let flags = input.below(256);
    let mut bytes = vec![0; input.size(LONGEST)];
    let mut at = 0;
    while !input.is_empty() {
        at += input.size(1 << 16);
        let count = input.size(256);
        let taken = input.take(count);
        if let Some(place) = bytes.get_mut(at..at + taken.len()) {
            place.copy_from_slice(taken);
        }
        at += taken.len();
    }
    if flags & u64::from(MIRRORED) != 0 && bytes.len() >= 4096 {
        bytes.copy_within(..512, 2048);
    }
    if flags & u64::from(FORGED) != 0 {
        bytes::forge(name, &mut bytes);
    }
    bytes
}

/// Makes the input that [`file`] blows up to these bytes.
pub(crate) fn deflate(flags: u8, bytes: &[u8]) -> Vec<u8> {
    let short = |number: usize| u16::try_from(number).expect("a seed is a small file").to_le_bytes();
    let mut out = vec![flags];
    out.extend(short(bytes.len()));
    let mut at = 0;
    while let Some(gap) = bytes[at..].iter().position(|&byte| byte != 0) {
        let start = at + gap;
        // Eight zeros are worth a gap.
        let end = bytes[start..].windows(8).position(|eight| eight == [0; 8]);
        let end = end.map_or(bytes.len(), |end| start + end).min(start + 255);
        out.extend(short(gap));
        out.push(u8::try_from(end - start).expect("cut to 255"));
        out.extend(&bytes[start..end]);
        at = end;
    }
    out
}

/// Steps in any order against the model.
fn operations(data: &[u8]) {
    if let Err(broken) = run(&mut Bytes(data)) {
        panic!("{broken}");
    }
}

fn run(choices: &mut Bytes<'_>) -> Verdict {
    let trouble = match choices.below(4) {
        0 => Trouble::None,
        1 => Trouble::StopAfter(1 + choices.below(600)),
        _ => fault(choices),
    };
    let mut run = Run::new(setup(choices), trouble);
    for group in ["synced", "buffered"] {
        run.step(Step::Create { group, synced: group == "synced" })?;
    }
    for number in 0..MOST_STEPS {
        if choices.is_empty() || run.stopped() {
            break;
        }
        let step = step(choices);
        run.step(step).map_err(|broken| format!("step {number}, {step:?}: {broken}"))?;
    }
    let check = |run: &Run, seed: u64| {
        let checked = run.ledger.check(&run.disk.crash(seed), &run.options(), End::PowerCut);
        checked.map_err(|broken| format!("at the end, seed {seed}: {broken}"))
    };
    if !run.stopped() {
        check(&run, choices.below(100))?;
    }
    // A stopped disk hears nothing of what the closing does.
    run.close();
    check(&run, choices.below(100))?;
    Ok(())
}
