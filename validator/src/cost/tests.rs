//! Charges on threads of the test's own; the counters are the process's and only ever grow.

use super::*;
use std::{hint::black_box, thread};

/// Works for so many milliseconds of this thread's own time.
pub(super) fn burn(milliseconds: u64) {
    let until = thread_time() + milliseconds * 1_000_000;
    let mut sum = 0_u64;
    while thread_time() < until {
        for number in 0..1_000 {
            sum = black_box(sum.wrapping_add(number));
        }
    }
}

fn on_a_thread(work: impl FnOnce() + Send) {
    thread::scope(|scope| scope.spawn(work).join().unwrap());
}

/// These rows are charged by this test alone: tests of one process run side by side.
#[test]
fn time_goes_to_the_last_charge_and_what_is_set_aside_counts_once() {
    let rows = [Cost::Decode, Cost::Hash, Cost::Roots];
    let before = rows.map(spent);
    on_a_thread(|| {
        let start = thread_time();
        Meter::ON.open();
        burn(20);
        Meter::ON.charge(Cost::Decode);
        Meter::ON.aside(Cost::Hash, || {
            burn(10);
            Meter::ON.aside(Cost::Roots, || burn(40));
        });
        burn(5);
        Meter::ON.charge(Cost::Decode);
        let all = thread_time() - start;
        let [decode, hash, roots] = rows.map(spent);
        let sum = decode + hash + roots - before.iter().sum::<u64>();
        assert!(sum <= all && sum > all * 9 / 10, "{sum} of {all}");
        let [decode, hash, roots] = [decode - before[0], hash - before[1], roots - before[2]];
        assert!(decode > 25_000_000 && decode < hash + roots, "{decode} {hash} {roots}");
        assert!(hash >= 10_000_000 && hash < roots, "{hash} {roots}");
        assert!(roots >= 40_000_000, "{roots}");
    });
}

#[test]
fn a_meter_that_is_off_counts_nothing() {
    let before = spent(Cost::Copy);
    on_a_thread(|| {
        Meter::OFF.open();
        burn(5);
        Meter::OFF.charge(Cost::Copy);
        assert_eq!(Meter::OFF.aside(Cost::Copy, || 7), 7);
        // Without an account, an ordinary charge counts nothing either.
        Meter::ON.charge(Cost::Copy);
    });
    assert_eq!(spent(Cost::Copy), before);
}

#[test]
fn names_are_distinct_and_in_place() {
    for (place, cost) in Cost::ALL.iter().enumerate() {
        assert_eq!(*cost as usize, place);
    }
    let mut names = Cost::ALL.map(Cost::as_str).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Cost::ALL.len());
}
