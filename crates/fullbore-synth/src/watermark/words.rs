//! What marks say.

use crate::draw::Draw;

/// Every letter that a text may hold.
#[cfg(test)]
pub(super) const LETTERS: &str = " ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789©®.@#/-_&";

const NOTICES: [&str; 24] = [
    "Sample",
    "Preview",
    "Proof",
    "Draft",
    "Copyright",
    "Confidential",
    "Do not copy",
    "Watermark",
    "Stock photo",
    "Not for sale",
    "All rights reserved",
    "For review only",
    "Demo",
    "Specimen",
    "Licensed image",
    "Evaluation",
    "Property of",
    "Exclusive",
    "Original",
    "Unpaid",
    "Low resolution",
    "Copy",
    "Archive",
    "Press",
];
const TRADES: [&str; 14] = [
    "Photo",
    "Photography",
    "Studio",
    "Images",
    "Pictures",
    "Media",
    "Art",
    "Design",
    "Stock",
    "Gallery",
    "Visuals",
    "Films",
    "Foto",
    "Press",
];
const ENDINGS: [&str; 6] = ["com", "net", "org", "photo", "io", "art"];
const ONSETS: [&str; 26] = [
    "b", "br", "c", "ch", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t",
    "tr", "v", "w", "z", "sh", "",
];
const VOWELS: [&str; 10] = ["a", "e", "i", "o", "u", "a", "e", "o", "ia", "ou"];
const CODAS: [&str; 12] = ["", "", "", "n", "r", "l", "s", "t", "m", "ck", "nd", "x"];
const RANDOM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.@-_&";

/// A text of one line, at times of two.
pub(super) fn text(draw: &mut Draw) -> String {
    if draw.chance(0.08) {
        return format!("{}\n{}", line(draw), line(draw));
    }
    line(draw)
}

fn line(draw: &mut Draw) -> String {
    let year = 1995 + draw.count(0, 31);
    let text = match draw.count(0, 11) {
        0 | 1 => (*draw.pick(&NOTICES)).to_owned(),
        2 => format!("© {} {}", name(draw), year),
        3 => format!("© {} {}", year, name(draw)),
        4 => format!("{} {}", name(draw), draw.pick(&TRADES)),
        5 => format!("{} {}", name(draw), name(draw)),
        6 => format!("www.{}.{}", name(draw).to_lowercase(), draw.pick(&ENDINGS)),
        7 => format!("@{}{}", name(draw).to_lowercase(), draw.pick(&["", "_photo", ".art", "22", "_"])),
        8 => format!("{} #{}", draw.pick(&TRADES), draw.count(1000, 99_999_999)),
        9 => format!("{}® {}/{}", name(draw), draw.count(1, 12), year),
        _ => random(draw),
    };
    match draw.count(0, 5) {
        0 | 1 => text.to_uppercase(),
        2 => text.to_lowercase(),
        _ => text,
    }
}

/// A name that no one need have, made of syllables.
fn name(draw: &mut Draw) -> String {
    let mut name = String::new();
    for _ in 0..draw.count(1, 3) {
        for part in [draw.pick(&ONSETS), draw.pick(&VOWELS), draw.pick(&CODAS)] {
            name.push_str(part);
        }
    }
    name[..1].to_uppercase() + &name[1..]
}

/// Letters, digits and signs in any order.
fn random(draw: &mut Draw) -> String {
    (0..draw.count(4, 16)).map(|_| char::from(*draw.pick(RANDOM))).collect()
}

#[cfg(test)]
mod tests {
    use fullbore_types::{Purpose, SampleId, SampleKey};

    use super::*;

    #[test]
    fn texts_vary_and_hold_known_letters_only() {
        let key = SampleKey { seed: 3, epoch: 0, sample: SampleId(0) };
        let mut draw = Draw::new(key.rng(Purpose::SynthMark));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2000 {
            let text = text(&mut draw);
            assert!(!text.trim().is_empty());
            assert!(text.chars().all(|c| c == '\n' || LETTERS.contains(c)), "{text:?}");
            seen.insert(text);
        }
        assert!(seen.len() > 1500, "{}", seen.len());
    }
}
