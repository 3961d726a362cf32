//! Medians, their confidence intervals, variation and ratios of few samples.
//!
//! Nothing is assumed of the distribution: a median's interval is made of two samples (order
//! statistics), and says with what confidence it holds. With fewer than six samples no two of them
//! reach 95 %; then the interval is the whole range and its confidence is lower.

/// The confidence that an interval has, where there are enough samples for it.
pub const CONFIDENCE: f64 = 0.95;

/// A row is noisy from this coefficient of variation on.
pub const NOISY: f64 = 0.035;

/// Most samples of one measure: beyond it the binomial weights would lose their last bits.
pub const SAMPLES_MAX: usize = 1_000;

/// What a few samples say about the quantity behind them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle sample, or the mean of the two in the middle.
    pub median: f64,
    /// The lower end of the median's interval.
    pub low: f64,
    /// The upper end of the median's interval.
    pub high: f64,
    /// The probability that such an interval holds the true median.
    pub confidence: f64,
    /// Standard deviation over mean; 0 for a single sample or a mean of 0.
    pub variation: f64,
}

/// Summarises samples in any order.
///
/// Shape: 1 to [`SAMPLES_MAX`] finite samples; anything else is the caller's mistake and panics.
/// Source: Hahn and Meeker, Statistical Intervals, section 5.2 (intervals of order statistics).
pub fn summarize(samples: &[f64]) -> Summary {
    assert!(!samples.is_empty(), "a summary needs a sample");
    assert!(samples.len() <= SAMPLES_MAX);
    assert!(samples.iter().all(|sample| sample.is_finite()));
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (rank, confidence) = interval(sorted.len());
    Summary {
        median: middle(&sorted),
        low: sorted[rank],
        high: sorted[sorted.len() - 1 - rank],
        confidence,
        variation: variation(&sorted),
    }
}

/// How many times better each subject's sample is than the baseline's of the same round.
///
/// Shape: pairs of samples taken next to each other in time, so that what slowed the machine
/// slowed both; `None` where a divisor is 0.
pub fn ratios(lower_is_better: bool, baseline: &[f64], subject: &[f64]) -> Option<Vec<f64>> {
    assert_eq!(baseline.len(), subject.len(), "rounds come in pairs");
    let ratio = |(baseline, subject): (&f64, &f64)| {
        let ratio = if lower_is_better { baseline / subject } else { subject / baseline };
        ratio.is_finite().then_some(ratio)
    };
    baseline.iter().zip(subject).map(ratio).collect()
}

/// The middle of sorted samples.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[half - 1], sorted[half])
    } else {
        sorted[half]
    }
}

/// The tightest symmetric interval that has the confidence: how many samples it leaves out at each
/// end, and the confidence that it has.
fn interval(count: usize) -> (usize, f64) {
    // The true median lies below the sample of rank r (from 0) when at most r of the samples are
    // below it: a binomial tail with p = 1/2.
    let n = as_f64(count);
    let mut weight = 0.5_f64.powf(n);
    let mut tail = weight;
    let mut best = (0, 1.0 - 2.0 * tail);
    for rank in 1..count.div_ceil(2) {
        weight *= (n - as_f64(rank) + 1.0) / as_f64(rank);
        tail += weight;
        let confidence = 1.0 - 2.0 * tail;
        if confidence < CONFIDENCE {
            break;
        }
        best = (rank, confidence);
    }
    best
}

/// The coefficient of variation, with the standard deviation of a sample (n - 1).
fn variation(samples: &[f64]) -> f64 {
    let count = as_f64(samples.len());
    let mean = samples.iter().sum::<f64>() / count;
    if samples.len() < 2 || mean == 0.0 {
        return 0.0;
    }
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt() / mean.abs()
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("counts of samples are small"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(summarize(&[3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(summarize(&[4.0, 1.0, 3.0, 2.0]).median, 2.5);
        assert_eq!(summarize(&[7.0]).median, 7.0);
    }

    /// Source: tables of intervals of the median (Hahn and Meeker, table J.11; NIST Handbook 151).
    #[test]
    fn intervals_are_those_of_published_tables() {
        let expected = [
            (5, 0, 0.9375),
            (6, 0, 0.96875),
            (9, 1, 0.9609375),
            (10, 1, 0.978515625),
            (15, 3, 0.96484375),
            (20, 5, 0.958610534667969),
        ];
        for (count, left_out, confidence) in expected {
            let (rank, found) = interval(count);
            assert_eq!(rank, left_out, "{count} samples");
            assert!((found - confidence).abs() < 1e-9, "{count} samples: {found}");
        }
        assert_eq!(interval(1), (0, 0.0));
        assert_eq!(interval(3), (0, 0.75));
        let (rank, confidence) = interval(SAMPLES_MAX);
        assert_eq!(rank, 468, "the normal approximation says 500 - 1.96 * sqrt(1000) / 2");
        assert!((0.95..0.96).contains(&confidence), "{confidence}");
    }

    #[test]
    fn an_interval_is_made_of_samples() {
        let samples: Vec<f64> = (0..20).map(f64::from).collect();
        let summary = summarize(&samples);
        assert_eq!((summary.low, summary.high), (5.0, 14.0));
    }

    #[test]
    fn an_interval_holds_the_true_median_as_often_as_it_says() {
        // A known sequence of 32-bit values with the median 0.5.
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
        };
        let mut held = 0;
        for _ in 0..4_000 {
            let samples: Vec<f64> = (0..9).map(|_| draw()).collect();
            let summary = summarize(&samples);
            held += u32::from(summary.low <= 0.5 && 0.5 <= summary.high);
        }
        let share = f64::from(held) / 4_000.0;
        // 0.961 expected; three standard deviations of the estimate are 0.009.
        assert!((0.952..0.970).contains(&share), "{share}");
    }

    #[test]
    fn variation_is_relative_and_of_a_sample() {
        // Mean 5, squares sum to 32, 32 / 7 under the root.
        let samples = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert!(close(summarize(&samples).variation, (32.0_f64 / 7.0).sqrt() / 5.0));
        assert_eq!(summarize(&[3.0, 3.0, 3.0]).variation, 0.0);
        assert_eq!(summarize(&[3.0]).variation, 0.0);
        assert_eq!(summarize(&[0.0, 0.0]).variation, 0.0);
    }

    #[test]
    fn a_ratio_above_one_is_better_in_either_direction() {
        assert_eq!(ratios(true, &[10.0, 12.0], &[5.0, 4.0]), Some(vec![2.0, 3.0]));
        assert_eq!(ratios(false, &[10.0, 12.0], &[5.0, 24.0]), Some(vec![0.5, 2.0]));
        assert_eq!(ratios(true, &[10.0], &[0.0]), None);
        assert_eq!(ratios(false, &[0.0], &[0.0]), None);
    }

    #[test]
    fn paired_ratios_survive_a_machine_that_slows_down() {
        let baseline = [10.0, 11.0, 13.0, 20.0, 31.0, 40.0];
        let subject: Vec<f64> = baseline.iter().map(|sample| sample / 4.0).collect();
        let ratio = summarize(&ratios(true, &baseline, &subject).unwrap());
        assert_eq!((ratio.low, ratio.median, ratio.high), (4.0, 4.0, 4.0));
    }

    #[test]
    #[should_panic(expected = "a summary needs a sample")]
    fn nothing_cannot_be_summarised() {
        summarize(&[]);
    }
}
