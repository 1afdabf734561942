//! Times as rabbitmq-arq writes them.

use warren_plugin_api::Timestamp;

const SECONDS_PER_DAY: i64 = 86_400;
/// 0001-01-01T00:00:00, the first second that Python's `datetime` can hold.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59, the last one.
const LAST_SECOND: i64 = 253_402_300_799;

/// `2026-11-24T00:32:30.524654+00:00`, the fraction left out when zero. A time that Python cannot
/// hold becomes the nearest one that it can.
pub(crate) fn write(time: Timestamp, out: &mut Vec<u8>) {
    let micros = write_seconds(time, out);
    if micros != 0 {
        out.push(b'.');
        digits::<6>(micros, out);
    }
    out.extend_from_slice(b"+00:00");
}

/// `2026-11-24T00:32:30.000000`: always 26 characters, so that texts compare as times do.
pub(crate) fn sortable(time: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(26);
    let micros = write_seconds(time, &mut out);
    out.push(b'.');
    digits::<6>(micros, &mut out);
    out
}

/// Writes up to the seconds; returns the microseconds.
fn write_seconds(time: Timestamp, out: &mut Vec<u8>) -> u32 {
    let seconds = time.unix_us().div_euclid(1_000_000);
    let micros = time.unix_us().rem_euclid(1_000_000) as u32;
    let (seconds, micros) = match seconds {
        ..FIRST_SECOND => (FIRST_SECOND, 0),
        FIRST_SECOND..=LAST_SECOND => (seconds, micros),
        _ => (LAST_SECOND, 999_999),
    };
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY) as u32;
    digits::<4>(year, out);
    out.push(b'-');
    digits::<2>(month, out);
    out.push(b'-');
    digits::<2>(day, out);
    out.push(b'T');
    digits::<2>(second / 3_600, out);
    out.push(b':');
    digits::<2>(second / 60 % 60, out);
    out.push(b':');
    digits::<2>(second % 60, out);
    micros
}

/// Year, month and day of a day counted from 1970-01-01, after Howard Hinnant's
/// `civil_from_days`: years begin in March, so that the leap day is the last.
fn civil_from_days(days: i64) -> (u32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

fn digits<const N: usize>(mut number: u32, out: &mut Vec<u8>) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(time: Timestamp) -> String {
        let mut out = Vec::new();
        write(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_python_cannot_hold_becomes_the_nearest() {
        assert_eq!(written(Timestamp::MIN), "0001-01-01T00:00:00+00:00");
        assert_eq!(written(Timestamp::MAX), "9999-12-31T23:59:59.999999+00:00");
    }

    proptest! {
        #[test]
        fn everything_else_is_written_as_the_contract_shows_it(
            seconds in FIRST_SECOND..=LAST_SECOND,
            micros in prop_oneof![Just(0), 0..1_000_000_i64],
        ) {
            let time = Timestamp::from_unix_us(seconds * 1_000_000 + micros);
            prop_assert_eq!(written(time), time.to_string());
            prop_assert_eq!(sortable(time).len(), 26);
        }
    }
}
