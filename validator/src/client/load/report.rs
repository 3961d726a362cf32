//! What a load measured, and whether it may be believed.

use super::core::{Cause, Micros};
use super::{Counts, LATE_MAX, Options, Sessions, Transport};
use crate::client::workload::Share;
use crate::command::terminal::{Paint, Side, Table, duration, micros, thousands};
use hdrhistogram::Histogram;
use ledger::Outcome;
use serde_json::json;
use std::time::Duration;

/// Ten minutes: older answers count as this old.
const LATENCY_MAX: Micros = 600_000_000;
/// Decimal digits that the histogram keeps.
const DIGITS: u8 = 3;
/// A run is invalid when more than one in so many transactions left late or never.
const LATE_ONE_IN: u64 = 100;

/// A distribution of latency; it counts from when each transaction should have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Half are below.
    pub p50: Duration,
    /// 99 in 100 are below.
    pub p99: Duration,
    /// 999 in 1,000 are below.
    pub p99_9: Duration,
    /// The longest.
    pub max: Duration,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p99_9: at(0.999),
            max: Duration::from_micros(histogram.max()),
        })
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "p50_us": whole_micros(self.p50),
            "p99_us": whole_micros(self.p99),
            "p99_9_us": whole_micros(self.p99_9),
            "max_us": whole_micros(self.max),
        })
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The histograms of a run.
pub(super) struct Measured {
    accepted: Histogram<u64>,
    finality: Histogram<u64>,
    recent: Histogram<u64>,
}

impl Measured {
    pub(super) fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MAX, DIGITS).expect("the bounds are in order");
        Self { accepted: histogram(), finality: histogram(), recent: histogram() }
    }

    pub(super) fn accepted(&mut self, latency: Micros) {
        self.accepted.saturating_record(latency);
    }

    pub(super) fn finalized(&mut self, latency: Micros) {
        self.finality.saturating_record(latency);
        self.recent.saturating_record(latency);
    }

    /// A transaction without an answer is at least this old: leaving it out would flatter.
    pub(super) fn lost(&mut self, age: Micros) {
        self.finality.saturating_record(age);
    }

    /// Returns how many became final since the last call, and how fast.
    pub(super) fn take_recent(&mut self) -> (u64, Option<Latency>) {
        let recent = (self.recent.len(), Latency::of(&self.recent));
        self.recent.reset();
        recent
    }
}

/// How many transactions left late, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lateness {
    by_cause: [u64; 4],
}

const CAUSES: [Cause; 4] = [Cause::Schedule, Cause::Signing, Cause::Authors, Cause::Offline];

impl Lateness {
    pub(super) fn late(&mut self, cause: Cause) {
        self.never_left(1, cause);
    }

    pub(super) fn never_left(&mut self, count: u64, cause: Cause) {
        self.by_cause[cause as usize] += count;
    }

    pub(super) fn total(&self) -> u64 {
        self.by_cause.iter().sum()
    }

    fn verdict(&self, offered: u64) -> Verdict {
        if self.total() * LATE_ONE_IN <= offered {
            return Verdict::Valid;
        }
        let worst = CAUSES.into_iter().max_by_key(|cause| self.by_cause[*cause as usize]);
        let (side, why) = match worst.unwrap_or(Cause::Schedule) {
            Cause::Schedule => {
                ("load", "its own thread came late: this machine is too busy for it")
            }
            Cause::Signing => ("load", "signing was behind: this machine is too busy for it"),
            Cause::Authors => (
                "validators",
                "every author had a transaction under way: they finalize more slowly than the rate \
                 (if not, there are too few authors)",
            ),
            Cause::Offline => ("validators", "none was connected"),
        };
        let (whole, tenths) =
            (self.total() * 100 / offered.max(1), self.total() * 1_000 / offered.max(1) % 10);
        let late = duration(LATE_MAX);
        Verdict::Invalid {
            side,
            why: format!(
                "{whole}.{tenths}% of the transactions left more than {late} late or never; the \
                 bottleneck is the {side}: {why}"
            ),
        }
    }
}

/// Whether the rate was kept, so that the figures mean what they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Valid,
    /// It was not.
    Invalid {
        /// Which side is the bottleneck: `load` or `validators`.
        side: &'static str,
        /// A sentence about it.
        why: String,
    },
}

/// Authors that were to send more than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    /// How many.
    pub authors: u32,
    /// The share of the transactions that they were to send.
    pub wanted: Share,
}

/// Everything that a load measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Transactions a second that were asked for.
    pub rate: u64,
    /// The name of the mix, if it has one.
    pub mix: Option<String>,
    /// Bytes of a record; of a mix with several sizes, their mean.
    pub size: u64,
    /// Authors that took turns.
    pub authors: u32,
    /// Those that were to send more than others, if there were such.
    pub hot: Option<Hot>,
    /// Names the keys and bodies.
    pub seed: u64,
    /// How transactions travelled.
    pub transport: Transport,
    /// Time in which transactions were offered.
    pub duration: Duration,
    /// What became of the transactions.
    pub counts: Counts,
    /// What went by UDP, where that was wanted.
    pub sessions: Option<Sessions>,
    /// Those that became final while others were still offered.
    pub finalized_in_time: u64,
    /// Transactions that left more than [`LATE_MAX`] late, or never.
    pub late: u64,
    /// Until a validator took them.
    pub accepted: Option<Latency>,
    /// Until a validator said they are final; those that are lost count as old as the run's end.
    pub finality: Option<Latency>,
    /// Whether the rate was kept.
    pub verdict: Verdict,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        duration: Duration,
        finalized_in_time: u64,
        sessions: Option<Sessions>,
        (counts, measured, lateness): (Counts, Measured, Lateness),
    ) -> Self {
        Self {
            rate: options.rate,
            mix: options.workload.mix.name.clone(),
            size: options.workload.mix.record_bytes_mean(),
            authors: options.authors,
            hot: options
                .workload
                .mix
                .hot_authors
                .map(|hot| Hot { authors: hot.count(options.authors), wanted: hot.transactions }),
            seed: options.workload.seed,
            transport: options.transport,
            duration,
            sessions,
            finalized_in_time,
            late: lateness.total(),
            accepted: Latency::of(&measured.accepted),
            finality: Latency::of(&measured.finality),
            verdict: lateness.verdict(counts.offered),
            counts,
        }
    }

    /// Returns the final transactions a second while others were offered.
    pub fn finalized_per_second(&self) -> u64 {
        let micros = self.duration.as_micros().max(1);
        let rate = u128::from(self.finalized_in_time) * 1_000_000 / micros;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Says what must not have happened, a sentence each.
    pub fn errors(&self) -> Vec<String> {
        self.counts.kinds.errors()
    }

    fn share(&self, count: u64) -> String {
        let thousandths = count * 1_000 / self.counts.offered.max(1);
        format!("{}.{}%", thousandths / 10, thousandths % 10)
    }

    /// Writes the summary for people.
    pub fn table(&self, paint: Paint) -> String {
        let mut table = Table::new(&[Side::Left, Side::Right, Side::Left]).indent(2);
        let share = |count: u64| self.share(count);
        let counts = &self.counts;
        let rate = format!("at {} tx/s for {}", thousands(self.rate), duration(self.duration));
        table.row(["offered".into(), thousands(counts.offered), rate]);
        table.row(["accepted".into(), thousands(counts.accepted), share(counts.accepted)]);
        let per_second = format!("{} tx/s", thousands(self.finalized_per_second()));
        table.row(["finalized".into(), thousands(counts.finalized_total()), per_second]);
        for outcome in Outcome::ALL {
            let count = counts.finalized[usize::from(outcome.code())];
            if count > 0 {
                table.row([format!("  {}", outcome.as_str()), thousands(count), share(count)]);
            }
        }
        table.row(["rejected".into(), thousands(counts.rejected_total())]);
        for (refusal, count) in &counts.rejected {
            table.row([format!("  {refusal}"), thousands(*count), share(*count)]);
        }
        let lost = thousands(counts.lost);
        table.row(["lost".into(), if counts.lost > 0 { paint.bad(&lost) } else { lost }]);
        for (name, count) in [
            ("held back", counts.held_back),
            ("never sent", counts.unsent),
            ("sent again", counts.resubmitted),
            ("signed again", counts.resigned),
        ] {
            if count > 0 {
                table.row([name.into(), thousands(count), share(count)]);
            }
        }
        if let Some(Sessions { handshakes, opened, datagrams: _, held_back }) = self.sessions {
            let handshakes = format!("handshakes sent: {}", thousands(handshakes));
            table.row(["sessions".into(), thousands(opened), handshakes]);
            if held_back > 0 {
                table.row(["  by TCP instead".into(), thousands(held_back), share(held_back)]);
            }
        }
        let mut text = self.mix_line(paint);
        self.add_kinds(&mut table);
        text.push_str(&table.render());
        let mut table = Table::new(&[Side::Left; 5]).indent(2);
        for (name, latency) in [("to accepted", self.accepted), ("to final", self.finality)] {
            if let Some(Latency { p50, p99, p99_9, max }) = latency {
                let cells = [("p50", p50), ("p99", p99), ("p99.9", p99_9), ("max", max)]
                    .map(|(name, time)| format!("{name} {}", micros(whole_micros(time))));
                table.row([vec![name.to_string()], cells.to_vec()].concat());
            }
        }
        text.push_str(&table.render());
        if let Verdict::Invalid { why, .. } = &self.verdict {
            text.push_str(&format!("  {}: {why}\n", paint.bad("INVALID")));
        }
        for error in self.errors() {
            text.push_str(&format!("  {}: {error}\n", paint.bad("ERROR")));
        }
        text
    }

    fn mix_line(&self, paint: Paint) -> String {
        match &self.mix {
            None => String::new(),
            Some(name) => format!("  mix {}, seed {}\n", paint.bold(name), self.seed),
        }
    }

    /// Adds what was sent, where a mix says that this differs.
    fn add_kinds(&self, table: &mut Table) {
        if self.mix.is_none() {
            return;
        }
        let kinds = &self.counts.kinds;
        for (name, count) in kinds.rows().into_iter().filter(|(_, count)| *count > 0) {
            table.row([name.into(), thousands(count), self.share(count)]);
        }
        if let Some(Hot { authors, wanted }) = self.hot {
            let (count, authors) = (kinds.by_hot_authors, thousands(authors.into()));
            let reached = self.share(count);
            let what = format!("{reached} of wanted {wanted}%, {authors} authors");
            table.row(["by hot authors".into(), thousands(count), what]);
        }
    }

    /// Writes the summary for programs.
    pub fn json(&self) -> serde_json::Value {
        let counts = &self.counts;
        let outcomes: serde_json::Map<_, _> = Outcome::ALL
            .into_iter()
            .map(|outcome| {
                let count = counts.finalized[usize::from(outcome.code())];
                (outcome.as_str().to_string(), json!(count))
            })
            .collect();
        let rejected: serde_json::Map<_, _> = counts
            .rejected
            .iter()
            .map(|(refusal, count)| (refusal.to_string(), json!(count)))
            .collect();
        let (valid, side, why) = match &self.verdict {
            Verdict::Valid => (true, None, None),
            Verdict::Invalid { side, why } => (false, Some(side), Some(why)),
        };
        json!({
            "rate": self.rate,
            "mix": self.mix,
            "size": self.size,
            "authors": self.authors,
            "seed": self.seed,
            "transport": match self.transport { Transport::Tcp => "tcp", Transport::Udp => "udp" },
            "duration_us": whole_micros(self.duration),
            "offered": counts.offered,
            "sent": counts.sent,
            "accepted": counts.accepted,
            "finalized": counts.finalized_total(),
            "finalized_in_time": self.finalized_in_time,
            "finalized_per_second": self.finalized_per_second(),
            "outcomes": outcomes,
            "rejected": counts.rejected_total(),
            "rejected_by_reason": rejected,
            "lost": counts.lost,
            "held_back": counts.held_back,
            "unsent": counts.unsent,
            "late": self.late,
            "resubmitted": counts.resubmitted,
            "resigned": counts.resigned,
            "kinds": counts.kinds.json(),
            "hot_authors": self.hot.map(|hot| json!({
                "authors": hot.authors,
                "wanted_percent": hot.wanted.fraction() * 100.0,
                "sent": counts.kinds.by_hot_authors,
            })),
            "errors": self.errors(),
            "sessions": self.sessions.as_ref().map(Sessions::json),
            "latency_accepted": self.accepted.as_ref().map(Latency::json),
            "latency_final": self.finality.as_ref().map(Latency::json),
            "valid": valid,
            "bottleneck": side,
            "invalid_because": why,
        })
    }
}
