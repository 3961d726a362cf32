//! What a test network showed, for people and for programs.

use super::acknowledged::Checked;
use super::compare::Compared;
use super::kill::Kill;
use super::meters::Costs;
use crate::client::load::Report;
use crate::command::Exit;
use crate::command::terminal::{Paint, Side, Table, duration, thousands};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that a run showed.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) folder: PathBuf,
    pub(super) report: Option<Report>,
    pub(super) compared: Compared,
    pub(super) acknowledged: Option<Checked>,
    pub(super) kill: Option<Kill>,
    pub(super) costs: Costs,
    pub(super) problems: Vec<String>,
}

impl Summary {
    /// Ends the command: well, or by the first of the problems.
    pub(super) fn result(&self) -> Result<(), Exit> {
        match self.problems.as_slice() {
            [] => Ok(()),
            [one] => Err(Exit::check_failed(one.clone())),
            [first, rest @ ..] => {
                Err(Exit::check_failed(format!("{first}\n(and {} more)", rest.len())))
            }
        }
    }

    pub(super) fn table(&self, paint: Paint) -> String {
        let mut text = String::from("\n");
        if let Some(report) = &self.report {
            text.push_str(&format!("{}\n{}", paint.bold("load"), report.table(paint)));
        }
        text.push_str(&self.costs.table(paint));
        text.push_str(&format!("{}\n", paint.bold("validators")));
        let mut table = Table::new(&[Side::Right, Side::Left, Side::Left]).indent(2);
        for (index, written) in self.compared.written.iter().enumerate() {
            let (height, root) = match written {
                Some(written) => (thousands(written.height), written.history_root.to_string()),
                None => (paint.bad("unreadable"), String::new()),
            };
            table.row([
                index.to_string(),
                format!("height {height}"),
                format!("history root {root}"),
            ]);
        }
        text.push_str(&table.render());
        if let Some(kill) = &self.kill {
            text.push_str(&format!("  {}\n", sentence(kill)));
        }
        let count = self.compared.written.len();
        if let Some(root) = self.compared.history_root {
            let height = thousands(self.compared.common_height);
            let all = paint.good(&format!("all {count} agree"));
            text.push_str(&format!("  {all} after height {height}: {root}\n"));
        }
        if let Some(checked) =
            self.acknowledged.as_ref().filter(|checked| checked.problems.is_empty())
        {
            text.push_str(&format!(
                "  {} transactions that a client was told are final: {}\n",
                thousands(checked.count),
                paint.good("all in every ledger")
            ));
        }
        for problem in &self.problems {
            text.push_str(&format!("  {}: {problem}\n", paint.bad("PROBLEM")));
        }
        let folder = self.folder.display();
        text.push_str(&format!(
            "{} {folder}\n  validator ledger verify {folder}/validator-0/data\n",
            paint.bold("data")
        ));
        text
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let validators: Vec<_> = self
            .compared
            .written
            .iter()
            .map(|written| {
                written.map(|written| {
                    let root = written.history_root.to_string();
                    json!({ "height": written.height, "history_root": root })
                })
            })
            .collect();
        let kill = self.kill.as_ref().map(|kill| {
            json!({
                "validator": kill.validator,
                "killed_us": micros(kill.killed),
                "restarted_us": kill.restarted.map(micros),
                "caught_up_us": kill.caught_up.map(micros),
                "longest_pause_us": micros(kill.longest_pause),
                "wiped": kill.is_wiped,
                "catch_up_per_second": kill.per_second(),
                "p99_before_us": kill.p99.map(|(before, _)| micros(before)),
                "p99_catching_up_us": kill.p99.map(|(_, during)| micros(during)),
            })
        });
        json!({
            "version": 1,
            "good": self.problems.is_empty(),
            "problems": self.problems,
            "data": self.folder.display().to_string(),
            "load": self.report.as_ref().map(Report::json),
            "validators": validators,
            "common_height": self.compared.common_height,
            "history_root": self.compared.history_root.map(|root| root.to_string()),
            "acknowledged": self.acknowledged.as_ref().map(|checked| checked.count),
            "kill": kill,
            "costs": self.costs.json(),
        })
    }
}

fn sentence(kill: &Kill) -> String {
    let mut text = format!("validator {} killed at {}", kill.validator, duration(kill.killed));
    if let Some(restarted) = kill.restarted {
        text.push_str(&format!(", started again at {}", duration(restarted)));
    }
    text.push_str(&match kill.caught_up {
        Some(time) => format!(", caught up {} later", duration(time)),
        None => ", not caught up".into(),
    });
    if let Some(rate) = kill.per_second() {
        text.push_str(&format!(
            " from nothing, {} transactions at {}/s",
            thousands(kill.transactions),
            thousands(rate)
        ));
    }
    if let Some((before, during)) = kill.p99 {
        let (before, during) = (duration(before), duration(during));
        text.push_str(&format!("; p99 {before} before, {during} meanwhile"));
    }
    let pause = duration(kill.longest_pause);
    text.push_str(&format!("; longest pause of the others {pause}"));
    text
}

#[cfg(test)]
mod tests {
    use super::super::compare::Written;
    use super::*;
    use crate::command::Code;
    use ledger::Digest;

    fn summary(problems: &[&str]) -> Summary {
        let written = Written { height: 1_234, history_root: Digest([7; 32]) };
        let history_root = problems.is_empty().then_some(Digest([7; 32]));
        let mut kill = Kill::new(1, Duration::from_secs(10), false);
        kill.restarted = Some(Duration::from_secs(20));
        kill.caught_up = Some(Duration::from_millis(1_500));
        kill.longest_pause = Duration::from_millis(340);
        Summary {
            folder: "/d".into(),
            report: None,
            compared: Compared {
                written: vec![Some(written), None],
                common_height: 1_234,
                history_root,
                problems: Vec::new(),
            },
            acknowledged: Some(Checked { count: 5_000, problems: Vec::new() }),
            kill: Some(kill),
            costs: Costs::default(),
            problems: problems.iter().map(|problem| (*problem).to_string()).collect(),
        }
    }

    #[test]
    fn a_good_run_says_that_all_agree() {
        let good = summary(&[]);
        let text = good.table(Paint::PLAIN);
        for part in [
            "height 1,234",
            "all 2 agree after height 1,234: 0707",
            "5,000 transactions that a client was told are final: all in every ledger",
            "validator 1 killed at 10.00 s, started again at 20.00 s, caught up 1.50 s later; \
             longest pause of the others 340 ms",
            "data /d",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(good.result().is_ok());
        let json = good.json();
        assert_eq!(json["good"], true);
        assert_eq!(json["kill"]["longest_pause_us"], 340_000);
        assert_eq!(json["validators"][0]["height"], 1_234);
    }

    #[test]
    fn problems_are_shown_and_end_the_command() {
        let bad = summary(&["validator 1 stalled", "more"]);
        let text = bad.table(Paint::PLAIN);
        assert!(text.contains("PROBLEM: validator 1 stalled") && !text.contains("agree"), "{text}");
        let exit = bad.result().unwrap_err();
        assert_eq!(exit.code(), Code::CheckFailed);
        assert!(exit.message().contains("(and 1 more)"), "{exit}");
        assert_eq!(bad.json()["good"], false);
    }
}
