//! When does a cron expression tick?
//!
//! The one door to croner, and to chrono's dates. Five fields, UTC: ticks are whole minutes, and told in
//! milliseconds since 1970.

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};

use crate::error::{Error, Result};

/// Milliseconds of a minute: ticks are multiples of it.
pub(crate) const MINUTE: u64 = 60_000;

/// A cron expression.
#[derive(Clone, Debug)]
pub(crate) struct Cron {
    text: String,
    cron: croner::Cron,
}

impl Cron {
    /// Parses an expression: minute, hour, day of the month, month, day of the week.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(text);
        let cron = parsed.map_err(|problem| Error::Invalid {
            what: format!(
                "{text:?} is no cron expression of five fields (minute, hour, day, month, weekday): {problem}"
            ),
        })?;
        Ok(Self { text: text.to_owned(), cron })
    }

    /// Returns the expression.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the first tick after a moment; `None` if there is none that can be told.
    pub(crate) fn after(&self, moment: u64) -> Option<u64> {
        let found = self.cron.find_next_occurrence(&date(moment)?, false).ok()?;
        millis(&found).filter(|&tick| tick > moment)
    }

    /// Returns the last tick at or before a moment; `None` if there is none that can be told.
    pub(crate) fn until(&self, moment: u64) -> Option<u64> {
        let found = self.cron.find_previous_occurrence(&date(moment)?, true).ok()?;
        millis(&found).filter(|&tick| tick <= moment)
    }
}

/// Returns the minute that a moment lies in.
fn date(moment: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::try_from(moment - moment % MINUTE).ok()?)
}

fn millis(date: &DateTime<Utc>) -> Option<u64> {
    let millis = u64::try_from(date.timestamp_millis()).ok()?;
    Some(millis - millis % MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    /// 2026-11-24T00:00:00Z, a Tuesday.
    const TUESDAY: u64 = 1_795_478_400_000;

    #[test]
    fn ticks_are_found_on_both_sides_of_a_moment() {
        let nightly = Cron::parse("0 3 * * *").unwrap();
        let tick = TUESDAY + 3 * HOUR;

        for (moment, until, after) in [
            (tick - 1, tick - DAY, tick),
            (tick, tick, tick + DAY),
            (tick + 500, tick, tick + DAY),
            (tick + HOUR, tick, tick + DAY),
        ] {
            assert_eq!(
                (nightly.until(moment), nightly.after(moment)),
                (Some(until), Some(after)),
                "{moment}"
            );
        }
        assert_eq!(nightly.text(), "0 3 * * *");
    }

    #[test]
    fn lists_steps_ranges_and_names_are_understood() {
        for (text, tick) in [
            ("*/15 * * * *", TUESDAY + 15 * MINUTE),
            ("30 8-18/2 * * MON-FRI", TUESDAY + 8 * HOUR + 30 * MINUTE),
            ("0 0 1,15 * *", TUESDAY + 7 * DAY),
            ("5 4 * * sun", TUESDAY + 5 * DAY + 4 * HOUR + 5 * MINUTE),
            ("0 12 29 2 *", 1_835_438_400_000),
        ] {
            assert_eq!(Cron::parse(text).unwrap().after(TUESDAY), Some(tick), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_of_five_fields_is_refused() {
        for text in
            ["", "* * * *", "0 0 3 * * *", "0 3 * * * * 2026", "61 * * * *", "x * * * *", "* 24 * * *"]
        {
            let refused = Cron::parse(text).unwrap_err();
            assert!(
                refused.to_string().contains("is no cron expression of five fields"),
                "{text}: {refused}"
            );
        }
    }

    #[test]
    fn a_tick_that_never_comes_and_moments_out_of_all_time_are_none() {
        let never = Cron::parse("0 0 30 2 *").unwrap();
        let often = Cron::parse("* * * * *").unwrap();

        assert_eq!((never.after(TUESDAY), never.until(TUESDAY)), (None, None));
        assert_eq!((often.after(u64::MAX), often.until(u64::MAX)), (None, None));
        assert_eq!((often.until(0), often.after(0)), (Some(0), Some(MINUTE)));
    }
}
