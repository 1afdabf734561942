//! Times in a message, in every shape that the Python worker reads.

use warren_plugin_api::Timestamp;

/// From here on a number counts milliseconds, not seconds.
const MAX_EPOCH_SECONDS: f64 = 2e10;
const US_PER_DAY: i64 = 86_400_000_000;

/// Reads a time written as text: RFC 3339 or ISO 8601 with `T` or a space, seconds and a fraction
/// of any length (digits beyond microseconds are cut off), an offset, or none, which means UTC;
/// a bare date; or a number of seconds or milliseconds since 1970.
pub(super) fn parse_text(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    parse_iso(text.as_bytes()).or_else(|| parse_number(text))
}

/// Reads a number of seconds, or of milliseconds when it is larger than 2e10.
pub(super) fn parse_number(text: &str) -> Option<Timestamp> {
    if !text.starts_with(|first: char| first == '-' || first == '+' || first.is_ascii_digit()) {
        return None;
    }
    let number: f64 = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())?;
    let seconds = if number.abs() > MAX_EPOCH_SECONDS {
        number / 1e3
    } else {
        number
    };
    // Rounding the whole, not the product of a rounded part, keeps 1.1 at 1,100,000 µs.
    let unix_us = (seconds * 1e6).round();
    in_python_range(unix_us as i64)
}

/// Python's years 1 to 9999.
fn in_python_range(unix_us: i64) -> Option<Timestamp> {
    let first = days_before(1, 1, 1) * US_PER_DAY;
    let last = (days_before(9999, 12, 31) + 1) * US_PER_DAY;
    (first..last)
        .contains(&unix_us)
        .then(|| Timestamp::from_unix_us(unix_us))
}

fn parse_iso(text: &[u8]) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let year = digits(&date[..4])?;
    let month = digits(&date[5..7])?;
    let day = digits(&date[8..])?;
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let since_midnight = match rest.split_first() {
        None => 0,
        Some((b'T' | b't' | b' ' | b'_', rest)) => parse_clock(rest)?,
        Some(_) => return None,
    };
    in_python_range(days_before(year, month, day) * US_PER_DAY + since_midnight)
}

/// `HH:MM[:SS[.fraction]][offset]` as microseconds since midnight in UTC.
fn parse_clock(text: &[u8]) -> Option<i64> {
    let (clock, rest) = text.split_at_checked(5)?;
    let hour = digits(&clock[..2]).filter(|hour| *hour < 24)?;
    let minute = digits(&clock[3..]).filter(|minute| *minute < 60 && clock[2] == b':')?;
    let mut rest = rest;
    let (mut second, mut us) = (0, 0);
    if let Some(after) = rest.strip_prefix(b":") {
        let (written, after) = after.split_at_checked(2)?;
        second = digits(written).filter(|second| *second < 60)?;
        rest = after;
        if let [b'.' | b',', fraction @ ..] = rest {
            let len = fraction
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            us = microseconds(&fraction[..len])?;
            rest = &fraction[len..];
        }
    }
    let offset_minutes = parse_offset(rest)?;
    Some((((hour * 60 + minute - offset_minutes) * 60) + second) * 1_000_000 + us)
}

/// The digits after the point, as microseconds; those beyond six are cut off.
fn microseconds(fraction: &[u8]) -> Option<i64> {
    if fraction.is_empty() {
        return None;
    }
    let kept = &fraction[..fraction.len().min(6)];
    let scale = (kept.len()..6).fold(1, |scale, _| scale * 10);
    Some(digits(kept)? * scale)
}

/// Minutes east of UTC; none written means UTC.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let (sign, written) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', written @ ..] => (1, written),
        [b'-', written @ ..] => (-1, written),
        _ => return None,
    };
    let (hours, minutes) = match written {
        [_, _] => (written, &b"00"[..]),
        [_, _, _, _] => written.split_at(2),
        [_, _, b':', _, _] => (&written[..2], &written[3..]),
        _ => return None,
    };
    let hours = digits(hours).filter(|hours| *hours < 24)?;
    let minutes = digits(minutes).filter(|minutes| *minutes < 60)?;
    Some(sign * (hours * 60 + minutes))
}

/// A short run of decimal digits.
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March
/// so that the leap day is the last of its year.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        parse_text(text).map(|time| time.to_string())
    }

    #[test]
    fn reads_every_shape_that_python_reads() {
        let cases = [
            (
                "2026-11-24T00:32:30.524654+00:00",
                "2026-11-24T00:32:30.524654+00:00",
            ),
            (
                "2026-11-24T00:32:30.524654789Z",
                "2026-11-24T00:32:30.524654+00:00",
            ),
            (
                "2026-11-24 02:32:30.5+02:00",
                "2026-11-24T00:32:30.500000+00:00",
            ),
            ("2026-11-24T00:32:30-0130", "2026-11-24T02:02:30+00:00"),
            ("2026-11-24T00:32", "2026-11-24T00:32:00+00:00"),
            ("2026-11-24t00:32:30z", "2026-11-24T00:32:30+00:00"),
            ("2026-11-24", "2026-11-24T00:00:00+00:00"),
            ("2024-02-29T23:59:59-23:59", "2024-03-01T23:58:59+00:00"),
            ("1700000000", "2023-11-14T22:13:20+00:00"),
            ("1700000000000", "2023-11-14T22:13:20+00:00"),
            ("-1.5", "1969-12-31T23:59:58.500000+00:00"),
            ("1700000000.123456", "2023-11-14T22:13:20.123456+00:00"),
        ];
        for (written, expected) in cases {
            assert_eq!(shown(written).as_deref(), Some(expected), "{written}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "now",
            "NaN",
            "inf",
            "Infinity",
            "1e300",
            "2026-13-01",
            "2026-02-29",
            "2026-01-00",
            "2026-01-01T",
            "2026-01-01T24:00",
            "2026-01-01T00:60",
            "2026-01-01T00:00:60",
            "2026-01-01T00:00:00.",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01X00:00",
            "0000-01-01",
            "2026-01-01T00:00:00 UTC",
            "20é6-01-01T00:00",
            "９９９９-01-01",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(unix_us in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let time = Timestamp::from_unix_us(unix_us);
            prop_assert_eq!(parse_text(&time.to_string()), Some(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", digits in "[0-9TZ:. +-]{0,40}") {
            let _ = parse_text(&text);
            let _ = parse_text(&digits);
        }
    }
}
