//! Every subject on small inputs: right on honest ones, and caught where it errs.

use super::*;

fn settings() -> Settings {
    Settings {
        scale: Scale::Smoke,
        rounds: None,
        seed: 1,
        data: std::env::temp_dir(),
        validator: std::path::PathBuf::new(),
        unverified: None,
    }
}

fn few(items: usize, threads: usize) -> Shape {
    Shape { items, keys: Keys::Few, message_bytes: MESSAGE_BYTES, invalid_percent: 0, threads }
}

#[test]
fn every_subject_is_right_and_gives_a_time() {
    for plan in Sigverify.plan(&settings()).unwrap() {
        let group = (plan.open)().unwrap();
        for mut contender in group.contenders {
            let name = contender.label().operation;
            contender.check().unwrap_or_else(|failure| panic!("{name}: {failure}"));
            let round = contender.round().unwrap();
            assert!(round.values[0] > 0.0, "{name}");
            assert_eq!(round.invalid, None);
        }
    }
}

#[test]
fn a_group_holds_the_baseline_first_then_rivals_then_ours() {
    let group = open(Scale::Smoke, 1, few(8, 1)).unwrap();
    let names: Vec<_> =
        group.contenders.iter().map(|contender| contender.label().operation).collect();
    assert_eq!(names[0], "ed25519-dalek::verify_strict");
    let ours = ["sigverify::verify_one", "sigverify::verify_many", "sigverify::verify_each"];
    for name in ["ed25519-dalek::verify_batch"].into_iter().chain(ours) {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    for rival in ["commonware", "ed25519-zebra", "aws-lc-rs", "ring"] {
        let present = names.iter().any(|name| name.starts_with(rival));
        assert_eq!(present, cfg!(feature = "rivals"), "{rival}");
    }
}

#[test]
fn more_threads_than_processors_are_skipped_with_the_reason() {
    let group = open(Scale::Smoke, 1, few(16, 4_096)).unwrap();
    assert!(group.contenders.is_empty());
    assert!(group.skipped.len() >= 4);
    assert!(group.skipped[0].1.contains("4096 threads"), "{}", group.skipped[0].1);
}

/// Answers the same to everything.
struct Stubborn(bool);

impl Subject for Stubborn {
    fn label(&self) -> Label {
        Label::new("test::stubborn")
    }

    fn pass(&mut self, inputs: &Inputs) -> Result<Pass, Failure> {
        Ok(subjects::timed(inputs, |_, verdicts| verdicts.fill(self.0)))
    }
}

#[test]
fn a_subject_that_errs_is_caught_before_it_is_timed() {
    let inputs = Rc::new(Inputs::new(1, few(8, 1), 16));
    for (answer, reason) in
        [(true, "a forgery at 0"), (false, "a valid signature at 0 was refused")]
    {
        let inputs = Rc::clone(&inputs);
        let mut checker =
            Checker { subject: Box::new(Stubborn(answer)), inputs, time_min: Duration::ZERO };
        let failure = checker.check().unwrap_err();
        assert!(failure.to_string().contains(reason), "{failure}");
    }
}
