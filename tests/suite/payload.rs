//! Which bytes does a message of a test have, and are these the ones that were pushed?

/// Makes the payload of a message: its number, and bytes that follow from it.
pub(crate) fn payload(id: usize, length: usize) -> Vec<u8> {
    let mut bytes = format!("{id:08}:{length:08}:").into_bytes();
    bytes.extend((0..length).map(|at| u8::try_from((id * 31 + at * 7) % 251).unwrap_or(0)));
    bytes
}

/// Reads the number of a message; `None` if the payload is not what was pushed.
pub(crate) fn number(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes.get(..18)?).ok()?;
    let id = text.get(..8)?.parse().ok()?;
    let length = text.get(9..17)?.parse().ok()?;
    (payload(id, length) == bytes).then_some(id)
}
