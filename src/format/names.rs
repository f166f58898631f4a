//! What are the files of a queue called? Built and parsed here only.
//!
//! No name ever comes from the content of a file without passing [`is_group`].

/// The folder of segments.
pub(crate) const LOG: &str = "log";
/// The folder of groups.
pub(crate) const GROUPS: &str = "groups";
/// The folder of the locks that tell which guests live.
pub(crate) const HOLDERS: &str = "holders";
/// The folder of bytes set aside.
pub(crate) const QUARANTINE: &str = "quarantine";
/// The list in [`QUARANTINE`], and its next version while it is written.
pub(crate) const LIST: &str = "quarantine/LIST";
pub(crate) const LIST_NEW: &str = "quarantine/LIST.new";
/// The file that says what belongs to the queue, and its successor while it is written.
pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const MANIFEST_NEW: &str = "MANIFEST.new";
/// The file that says that a queue is in the making, of what was saved of another.
pub(crate) const SALVAGING: &str = "SALVAGING";
/// The file that the owner holds locked.
pub(crate) const LOCK: &str = "LOCK";
/// Says whose unfinished copy a folder holds.
pub(crate) const UNFINISHED: &str = "UNFINISHED";
/// The socket at which the owner serves its guests.
pub(crate) const SOCKET: &str = "SOCKET";

/// Bytes of the longest group name.
pub(crate) const GROUP_LIMIT: usize = 64;

/// Names a segment: nine digits at least, so that names sort as numbers do.
pub(crate) fn segment(number: u64) -> String {
    format!("{LOG}/{number:09}.seg")
}

/// Parses the last part of a segment's name; only what [`segment`] builds passes.
pub(crate) fn parse_segment(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() >= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse().ok())??;
    (name == &segment(number)[LOG.len() + 1..]).then_some(number)
}

/// Names the side file of a segment.
pub(crate) fn index(number: u64) -> String {
    format!("{LOG}/{number:09}.idx")
}

/// Parses the last part of a side file's name; only what [`index`] builds passes.
pub(crate) fn parse_index(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".idx")?;
    let number = parse_segment(&format!("{digits}.seg"))?;
    (name == &index(number)[LOG.len() + 1..]).then_some(number)
}

/// Names a group's folder.
pub(crate) fn group(name: &str) -> String {
    format!("{GROUPS}/{name}")
}

/// Names one half (0 or 1) of a group's consumer-offset file.
pub(crate) fn half(name: &str, which: usize) -> String {
    debug_assert!(which < 2);
    format!("{GROUPS}/{name}/{which}.offsets")
}

/// Names a half that is made anew, until it takes the place of the bad one.
pub(crate) fn half_new(name: &str, which: usize) -> String {
    format!("{}.new", half(name, which))
}

/// Names the file that a guest holds locked as long as its process lives.
pub(crate) fn holder(holder: u32) -> String {
    format!("{HOLDERS}/{holder:08x}")
}

/// Parses the last part of the name of such a file; only what [`holder`] builds passes. 0 names nobody.
pub(crate) fn parse_holder(name: &str) -> Option<u32> {
    let number = u32::from_str_radix(name, 16).ok().filter(|&number| number != 0)?;
    (name == &holder(number)[HOLDERS.len() + 1..]).then_some(number)
}

/// Names bytes set aside: a repeat of the same find gets the same name.
pub(crate) fn evidence(segment: u64, position: u64, checksum: u32) -> String {
    format!("{QUARANTINE}/{segment:09}-{position}-{checksum:08x}.torn")
}

/// Names promised bytes of a segment that have gone bad, set aside by a repair.
pub(crate) fn gone_bad(segment: u64, position: u64, checksum: u32) -> String {
    format!("{QUARANTINE}/{segment:09}-{position}-{checksum:08x}.damaged")
}

/// Names a whole file, set aside by a repair, that has the name of a segment and is none, or not all of it.
pub(crate) fn no_segment(segment: u64, checksum: u32) -> String {
    format!("{QUARANTINE}/{segment:09}-0-{checksum:08x}.seg")
}

/// Names a half of a group, set aside whole by a repair.
pub(crate) fn bad_half(name: &str, which: usize, checksum: u32) -> String {
    format!("{QUARANTINE}/{name}-{which}-{checksum:08x}.offsets")
}

/// Tells whether a name is allowed for a group: `[a-z0-9][a-z0-9._-]{0,63}`.
pub(crate) fn is_group(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= GROUP_LIMIT
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_name_parses_back_and_nothing_else_does() {
        for number in [0, 42, 999_999_999, 1_000_000_000, u64::MAX] {
            assert_eq!(parse_segment(&segment(number)["log/".len()..]), Some(number));
        }
        for name in ["42.seg", "0000000042.seg", "000000042.SEG", "+00000042.seg", "000000042", "", ".seg"] {
            assert_eq!(parse_segment(name), None, "{name}");
        }
    }

    #[test]
    fn a_side_file_has_its_segments_number_and_no_other_name() {
        for number in [0, 42, 999_999_999, 1_000_000_000, u64::MAX] {
            assert_eq!(parse_index(&index(number)["log/".len()..]), Some(number));
        }
        for name in
            ["42.idx", "0000000042.idx", "000000042.IDX", "000000042.seg", "000000042.seg.idx", ".idx"]
        {
            assert_eq!(parse_index(name), None, "{name}");
        }
    }

    #[test]
    fn the_name_of_a_holders_file_parses_back_and_nothing_else_does() {
        for number in [1, 0x1a2b, 0x89ab_cdef, u32::MAX] {
            assert_eq!(parse_holder(&holder(number)["holders/".len()..]), Some(number));
        }
        for name in ["", "00000000", "1a2b", "89ABCDEF", "+0001a2b", "00001a2b.old", "000001a2b", "zzzzzzzz"]
        {
            assert_eq!(parse_holder(name), None, "{name}");
        }
    }

    #[test]
    fn group_names_stay_within_their_folder() {
        for name in ["a", "0", "mailer", "a.b_c-d", &"x".repeat(64)] {
            assert!(is_group(name), "{name}");
        }
        for name in ["", ".", "..", "-a", "_a", ".a", "A", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(!is_group(name), "{name}");
        }
    }
}
