//! Times and durations as text.

use std::time::Duration;

use chunkstore::metadata::Timestamp;

/// A time in local time to the second, as in `2026-11-25 08:45:50`.
pub(crate) fn show(time: Timestamp) -> String {
    match jiff::Timestamp::new(time.seconds, 0) {
        Ok(stamp) => {
            stamp.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        // Years that calendars have no word for, from a file system's whim: the number still tells it.
        Err(_) => format!("@{}", time.seconds),
    }
}

/// A time for programs: RFC 3339 with nanoseconds and the local offset, as restic writes it.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
    match jiff::Timestamp::new(time.seconds, nanoseconds) {
        Ok(stamp) => stamp
            .to_zoned_datetime(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%dT%H:%M:%S%.f%:z")
            .to_string(),
        Err(_) => format!("@{}.{:09}", time.seconds, time.nanoseconds),
    }
}

/// A duration as restic prints it: `0:03`, `12:34`, `1:02:03`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_has_a_text() {
        for seconds in [i64::MIN, -1, 0, 1 << 40, 1 << 50, i64::MAX] {
            let time = Timestamp { seconds, nanoseconds: 999_999_999 };
            assert!(!show(time).is_empty());
            assert!(!rfc3339(time).is_empty());
        }
    }

    #[test]
    fn rfc3339_keeps_the_instant() {
        let text = rfc3339(Timestamp { seconds: -1, nanoseconds: 5 });
        let back: jiff::Timestamp = text.parse().unwrap();
        assert_eq!((back.as_nanosecond()), -1_000_000_000 + 5);
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_secs(3)), "0:03");
        assert_eq!(duration(Duration::from_secs(754)), "12:34");
        assert_eq!(duration(Duration::from_secs(3723)), "1:02:03");
    }
}
