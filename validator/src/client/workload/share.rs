//! A share of a whole: exact to a millionth, and drawn from 32 random bits.

use std::fmt;

const WHOLE: u32 = 1_000_000;
/// Digits after the point of a percentage that is a whole number of millionths.
const DECIMALS: usize = 4;

/// A share, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(WHOLE);

    /// Makes it from whole percent, also from more than 100.
    pub fn percent(percent: u8) -> Self {
        Self(u32::from(percent) * (WHOLE / 100))
    }

    /// Reads a percentage as a person writes it, such as `30` or `0.25`; none for anything else, and for
    /// more than 100.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| {
            !text.is_empty()
                && text.len() <= DECIMALS
                && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole) || !is_number(decimals) {
            return None;
        }
        let share = Self(format!("{whole}{decimals:0<DECIMALS$}").parse().ok()?);
        (share <= Self::ALL).then_some(share)
    }

    /// Returns whether it is nothing.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Returns both together.
    pub fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns whether a lot of all that 32 bits hold falls into it.
    pub fn holds(self, lot: u32) -> bool {
        u64::from(lot) * u64::from(WHOLE) < u64::from(self.0) << 32
    }

    /// Returns its part of a number, rounded down.
    pub fn of(self, number: u64) -> u64 {
        let part = u128::from(number) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Returns whether the place of a sequence belongs to it, when it is spread evenly.
    pub fn takes(self, place: u64) -> bool {
        self.of(place.saturating_add(1)) > self.of(place)
    }

    /// Returns it as a fraction of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }
}

/// Writes the percentage without its sign, such as `0.25`.
impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        match rest {
            0 => write!(formatter, "{whole}"),
            _ => write!(formatter, "{whole}.{}", format!("{rest:04}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_exactly_and_written_back() {
        for text in ["0", "1", "30", "100", "0.25", "99.9999", "12.5"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Share::parse("30"), Some(Share::percent(30)));
        assert_eq!(Share::parse("1.50"), Share::parse("1.5"));
        for wrong in ["", ".", "1.", ".5", "-1", "+1", "101", "100.0001", "0.00001", "1e1", "nan"] {
            assert_eq!(Share::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lots_fall_into_it_from_the_first_to_the_last() {
        for (share, first, last) in [
            (Share::NONE, false, false),
            (Share::ALL, true, true),
            (Share::percent(50), true, false),
        ] {
            assert_eq!((share.holds(0), share.holds(u32::MAX)), (first, last));
        }
        assert!(Share::percent(50).holds((1 << 31) - 1) && !Share::percent(50).holds(1 << 31));
    }

    #[test]
    fn places_are_taken_evenly_and_add_up() {
        let share = Share::parse("12.5").unwrap();
        let taken: Vec<u64> = (0..32).filter(|place| share.takes(*place)).collect();
        assert_eq!(taken, [7, 15, 23, 31]);
        assert_eq!(share.of(1_000), 125);
        assert!(!Share::NONE.takes(5) && Share::ALL.takes(5));
        assert_eq!(Share::ALL.of(u64::MAX), u64::MAX);
    }
}
