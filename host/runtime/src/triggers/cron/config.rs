//! The section `[[trigger.cron]]` of a manifest.

use std::fmt;

use jiff::Zoned;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

/// `[[trigger.cron]]`: the component runs at the times of the schedule.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CronTrigger")]
pub(super) struct Config {
    /// Minute, hour, day of the month, month and day of the week, as in `30 3 * * MON-FRI`. A sixth field before them is the second.
    schedule: Schedule,
    /// Time zone of the schedule, such as `Europe/Berlin`. Default: `UTC`.
    timezone: Option<Zone>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct Schedule(croner::Cron);

impl TryFrom<String> for Schedule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let schedule: croner::Cron = text.parse().map_err(|error| {
            format!("\"{text}\" is not a schedule like \"30 3 * * *\", every day at 3:30: {error}")
        })?;
        match schedule.find_next_occurrence(&Zoned::now().with_time_zone(TimeZone::UTC), false) {
            Ok(_) => Ok(Self(schedule)),
            Err(_) => Err(format!("the schedule \"{text}\" has no time in the future")),
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct Zone(TimeZone);

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        TimeZone::get(&name).map(Self).map_err(|_| {
            format!("there is no time zone \"{name}\"; use a name like \"Europe/Berlin\", or leave it out for UTC")
        })
    }
}

impl Config {
    fn zone(&self) -> TimeZone {
        let zone = self.timezone.as_ref();
        zone.map_or(TimeZone::UTC, |Zone(zone)| zone.clone())
    }

    /// Returns the first time of the schedule after `now`; `None` if there is none.
    pub(super) fn next_after(&self, now: &Zoned) -> Option<Zoned> {
        let now = now.with_time_zone(self.zone());
        self.schedule.0.find_next_occurrence(&now, false).ok()
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schedule.0.as_str())?;
        let zone = self
            .timezone
            .as_ref()
            .and_then(|Zone(zone)| zone.iana_name());
        zone.map_or(Ok(()), |zone| write!(f, " {zone}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    fn next(config: &str, now: &str) -> String {
        let config: Config = toml::from_str(config).unwrap();
        let next = config.next_after(&now.parse().unwrap()).unwrap();
        next.timestamp().to_string()
    }

    #[test]
    fn times_are_in_utc_or_in_the_named_zone() {
        let now = "2026-03-28T12:00:00+00:00[UTC]";
        let every_night = "schedule = \"30 3 * * *\"";
        assert_eq!(next(every_night, now), "2026-03-29T03:30:00Z");
        // Summer time starts in that night.
        let berlin = format!("{every_night}\ntimezone = \"Europe/Berlin\"");
        assert_eq!(next(&berlin, now), "2026-03-29T01:30:00Z");
        assert_eq!(
            next("schedule = \"*/10 * * * * *\"", now),
            "2026-03-28T12:00:10Z"
        );
    }

    #[test]
    fn malformed_schedules_are_refused() {
        for config in [
            "schedule = \"every day\"",
            "schedule = \"61 * * * *\"",
            "schedule = \"0 0 30 2 *\"",
            "schedule = \"* * * * *\"\ntimezone = \"Moon/Base\"",
            "timezone = \"UTC\"",
        ] {
            assert!(toml::from_str::<Config>(config).is_err(), "{config}");
        }
    }
}
