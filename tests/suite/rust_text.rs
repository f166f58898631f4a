//! What does a Rust file say, without comments, texts and unit tests? As far as `tidy` needs it.

/// Blanks comments and the inside of texts and characters; lines stay where they are.
pub(crate) fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Returns the end of the comment, text or character that begins here; `at` itself if none does.
fn skip(chars: &[char], at: usize) -> usize {
    let get = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let fresh = at == 0 || !is_word(chars[at - 1]);
    match (chars[at], get(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|&index| chars[index] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_end(chars, at),
        ('"', _) => text_end(chars, at + 1, '"'),
        ('b' | 'c', '"') if fresh => text_end(chars, at + 2, '"'),
        ('r', '"' | '#') if fresh => raw_end(chars, at + 1).unwrap_or(at),
        ('b' | 'c', 'r') if fresh => raw_end(chars, at + 2).unwrap_or(at),
        // A lifetime has no closing quote right behind its first letter.
        ('\'', '\\') => text_end(chars, at + 1, '\''),
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        _ => at,
    }
}

fn text_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn block_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) if depth == 1 => return at + 2,
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// Returns the end of a raw text whose hashes, or whose quote, begin here.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closes = |index: &usize| {
        chars[*index] == '"' && chars[index + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
    };
    let end = (at + hashes + 1..chars.len()).find(closes);
    Some(end.map_or(chars.len(), |end| end + 1 + hashes))
}

/// Cuts the items under `#[cfg(test)]` out of stripped text. The second value names the modules
/// among them that lie in files of their own.
pub(crate) fn without_tests(stripped: &str) -> (String, Vec<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut modules = Vec::new();
    let mut rest = stripped;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        let item = &rest[start + MARK.len()..];
        let end = item_end(item);
        let words: Vec<&str> = words(&item[..end]).map(|(_, word)| word).collect();
        if item[..end].ends_with(';')
            && let Some(at) = words.iter().position(|&word| word == "mod")
        {
            modules.extend(words.get(at + 1).map(|&name| name.to_owned()));
        }
        rest = &item[end..];
    }
    out.push_str(rest);
    (out, modules)
}

/// Returns where an item ends: behind its `;` or its closing brace, or before that of what holds it.
fn item_end(item: &str) -> usize {
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            _ => {}
        }
        match (c, depth) {
            (_, -1) => return at,
            (';', 0) => return at + 1,
            // A list in braces, of a `use` or a constant, is followed by the item's own end.
            ('}', 0) => return at + if item[at + 1..].starts_with(';') { 2 } else { 1 },
            _ => {}
        }
    }
    item.len()
}

/// Iterates over words (names, keywords, numbers) and where they begin.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = text.as_ptr() as usize;
    text.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - base, word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the names that come first in the paths behind `root::`, groups in braces opened:
/// of `use root::{a::b, c}` these are `a` and `c`.
pub(crate) fn named_under<'a>(text: &'a str, root: &str) -> Vec<&'a str> {
    words(text)
        .filter(|&(at, word)| word == root && !text[..at].trim_end().ends_with("::"))
        .filter_map(|(at, word)| text[at + word.len()..].trim_start().strip_prefix("::"))
        .flat_map(first_names)
        .collect()
}

/// Returns the first names of what follows a `::`.
pub(crate) fn first_names(path: &str) -> Vec<&str> {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        return words(path).take(1).map(|(_, word)| word).collect();
    };
    let mut depth = 0;
    let mut names = Vec::new();
    let mut start = 0;
    for (at, c) in group.char_indices() {
        if depth == 0 && (c == ',' || c == '}') {
            names.extend(words(&group[start..at]).next().map(|(_, word)| word));
            start = at + 1;
        }
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

#[test]
fn comments_and_texts_are_blanked_and_nothing_else() {
    let text = r##"a // x "y
/* b /* c */ d */ e("f \" g", 'h', '\'', b"i", r#"j " k"#, br"l") 'm: n<'o> raw"##;

    let stripped = strip(text);

    let left: Vec<&str> = words(&stripped).map(|(_, word)| word).collect();
    assert_eq!(left, ["a", "e", "m", "n", "o", "raw"]);
    assert_eq!(stripped.lines().count(), 2);
}

#[test]
fn unit_tests_are_cut_out_and_what_follows_stays() {
    let text = "one #[cfg(test)] mod tests { fn x() { y[1]; } } two #[cfg(test)]\nmod golden; \
                #[cfg(test)] use a::{b, c}; three #[cfg(test)] #[allow(x)] fn f(a: [u8; 3]) { } four \
                { #[cfg(test)] five: X } six";

    let (left, modules) = without_tests(text);

    assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["one", "two", "three", "four", "{", "}", "six"]);
    assert_eq!(modules, ["golden"]);
}

#[test]
fn first_names_are_found_in_paths_and_groups() {
    let text = "use crate::{a::{b, c}, d, e::f}; crate::g::h(); x::crate::i; use std::{fs, io};";

    assert_eq!(named_under(text, "crate"), ["a", "d", "e", "g"]);
    assert_eq!(named_under(text, "std"), ["fs", "io"]);
}
