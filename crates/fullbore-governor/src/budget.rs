//! Amounts of memory as users write and read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Units by name, the largest of each kind first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A limit on memory: written as `8GB` (10^9 bytes each), `8GiB` (2^30 bytes each), a plain number of bytes, or
/// `80%` of what there is. Small letters and a blank before the unit are allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// That many bytes.
    Bytes(u64),
    /// That many hundredths of what there is, above 0 and at most 100.
    Percent(f64),
}

/// A text that is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{text:?} is not an amount of memory")]
#[diagnostic(code(config::memory::amount), help("write 8GB, 512MiB, or a share as 80%"))]
pub struct BudgetError {
    /// What was written.
    pub text: String,
}

impl Budget {
    /// The budget in bytes, where `total` is all there is: never more than that. `None` for a share of an unknown
    /// total.
    pub fn bytes(self, total: Option<u64>) -> Option<u64> {
        match (self, total) {
            (Budget::Bytes(bytes), total) => Some(total.map_or(bytes, |total| bytes.min(total))),
            (Budget::Percent(percent), Some(total)) => Some((total as f64 * percent / 100.0) as u64),
            (Budget::Percent(_), None) => None,
        }
    }
}

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let refused = || BudgetError { text: text.into() };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..digits], trimmed[digits..].trim_start());
        let value: f64 = number.parse().map_err(|_| refused())?;
        if unit == "%" {
            return if value > 0.0 && value <= 100.0 { Ok(Budget::Percent(value)) } else { Err(refused()) };
        }
        let scale = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((_, scale)) => *scale,
            None if unit.is_empty() => 1,
            None => return Err(refused()),
        };
        // Whole numbers stay exact; fractions are rounded to bytes.
        match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(scale).map(Budget::Bytes).ok_or_else(refused),
            Err(_) if value * (scale as f64) < u64::MAX as f64 => {
                Ok(Budget::Bytes((value * scale as f64).round() as u64))
            }
            Err(_) => Err(refused()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Budget::Percent(percent) => write!(f, "{percent}%"),
            // The unit with the smallest number in front of it that is whole.
            Budget::Bytes(bytes) => {
                let whole = |(_, scale): &&(&str, u64)| bytes.is_multiple_of(*scale);
                let (unit, scale) =
                    UNITS.iter().filter(whole).max_by_key(|(_, scale)| *scale).unwrap_or(&("B", 1));
                write!(f, "{}{unit}", bytes / scale)
            }
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl de::Visitor<'_> for Amount {
            type Value = Budget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of memory such as 8GB, 512MiB or 80%")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Budget, E> {
                Ok(Budget::Bytes(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Budget, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

/// Bytes for people: `640 B`, `7.4 MB`, `61 MB`, `2.0 GB`. Units of ten, as in [`Budget`]'s `GB`.
pub fn in_words(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} KB", value / 1e3),
        1_000_000..10_000_000 => format!("{:.1} MB", value / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("8GB", 8_000_000_000),
            ("8 gb", 8_000_000_000),
            ("8GiB", 8 << 30),
            ("512MiB", 512 << 20),
            ("1.5GB", 1_500_000_000),
            ("640", 640),
            ("640B", 640),
        ] {
            assert_eq!(text.parse(), Ok(Budget::Bytes(bytes)), "{text}");
        }
        assert_eq!("80%".parse(), Ok(Budget::Percent(80.0)));
        assert_eq!("12.5 %".parse(), Ok(Budget::Percent(12.5)));
        for text in ["", "GB", "-1GB", "8XB", "8G", "0%", "101%", "1..5GB", "99999999999TB", "1e5GB", "8GB9"]
        {
            assert_eq!(text.parse::<Budget>(), Err(BudgetError { text: text.into() }), "{text}");
        }
    }

    #[test]
    fn a_share_is_of_what_there_is_and_never_more() {
        assert_eq!(Budget::Percent(80.0).bytes(Some(10_000)), Some(8_000));
        assert_eq!(Budget::Percent(80.0).bytes(None), None);
        assert_eq!(Budget::Bytes(500).bytes(None), Some(500));
        assert_eq!(Budget::Bytes(500).bytes(Some(100)), Some(100));
    }

    #[test]
    fn settings_hold_a_text_or_a_number_of_bytes() {
        let read = |text| serde_json::from_str::<Budget>(text);
        assert_eq!(read("\"8GiB\"").unwrap(), Budget::Bytes(8 << 30));
        assert_eq!(read("1000000").unwrap(), Budget::Bytes(1_000_000));
        assert!(read("\"much\"").unwrap_err().to_string().contains("8GB, 512MiB or 80%"));
        assert_eq!(serde_json::to_string(&Budget::Bytes(1_500_000_000)).unwrap(), "\"1500MB\"");
        assert_eq!(serde_json::to_string(&Budget::Percent(80.0)).unwrap(), "\"80%\"");
    }

    #[test]
    fn people_read_two_digits() {
        let amounts = [640, 64_000, 7_400_000, 61_000_000, 2_000_000_000, 45_300_000_000];
        assert_eq!(amounts.map(in_words), ["640 B", "64 KB", "7.4 MB", "61 MB", "2.0 GB", "45.3 GB"]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes: u64, percent in 0.001f64..=100.0) {
            for budget in [Budget::Bytes(bytes), Budget::Bytes(bytes >> 34 << 30), Budget::Percent(percent)] {
                prop_assert_eq!(budget.to_string().parse::<Budget>(), Ok(budget));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,12}") {
            let _ = text.parse::<Budget>();
        }
    }
}
