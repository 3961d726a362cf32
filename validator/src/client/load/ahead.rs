//! How much is signed before the start, and how many authors begin.

use super::Options;

/// A hot author's transactions follow each other no faster than this: what takes longer to become final is
/// not signed ahead for nothing, and what is faster is signed on the way.
const TURNS_PER_SECOND_MAX: u64 = 50;
/// Beside its share, each author signs a quarter more and this many.
const SPARE: u64 = 2;

/// How many transactions of which authors are signed before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    /// The first ones are hot.
    pub(super) hot_authors: u32,
    /// Authors that begin, hot ones counted; no more than there are offers, since each signs for one.
    pub(super) beginning: u32,
    /// Transactions of each hot author.
    hot: u64,
    /// Transactions of each other author that begins.
    others: u64,
}

impl Ahead {
    pub(super) fn of(options: &Options) -> Self {
        let (authors, offers) = (options.authors, options.offers());
        let hot_authors = options.workload.hot_authors(authors);
        let other_authors = u64::from(authors - hot_authors);
        let first = Self {
            hot_authors,
            beginning: hot_authors + least(other_authors, offers),
            hot: 1,
            others: 1,
        };
        let Some(duration) = options.duration.filter(|_| options.presigned) else {
            return first;
        };
        let turns = (duration.as_secs() + 1).saturating_mul(TURNS_PER_SECOND_MAX);
        let share = options.workload.mix.hot_authors.map_or(0, |hot| hot.transactions.of(offers));
        let hot = share.div_ceil(u64::from(hot_authors).max(1)).min(turns);
        // What the hot ones do not reach falls to the others.
        let rest = offers - hot.saturating_mul(hot_authors.into()).min(offers);
        Self {
            hot: with_spare(hot),
            others: with_spare(rest.div_ceil(other_authors.max(1))),
            ..first
        }
    }

    /// How many an author signs before the start.
    pub(super) fn links(&self, author: u32) -> u64 {
        if author < self.hot_authors {
            self.hot
        } else if author < self.beginning {
            self.others
        } else {
            0
        }
    }

    /// How many all sign together.
    pub(super) fn total(&self) -> u64 {
        let others = u64::from(self.beginning - self.hot_authors);
        let hot = self.hot.saturating_mul(self.hot_authors.into());
        hot.saturating_add(self.others.saturating_mul(others))
    }
}

/// Authors take turns, but whose transactions are final sooner are sooner back. With a single turn for each
/// nobody comes back.
fn with_spare(share: u64) -> u64 {
    match share {
        0 | 1 => 1,
        _ => share.saturating_add(share / 4).saturating_add(SPARE),
    }
}

fn least(authors: u64, offers: u64) -> u32 {
    u32::try_from(authors.min(offers)).expect("there are no more than the authors")
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;
    use crate::client::workload::{HotAuthors, Share};
    use std::time::Duration;

    fn ahead(authors: u32, rate: u64, seconds: Option<u64>, hot: Option<(u8, u8)>) -> Ahead {
        let mut options = options(&[]);
        (options.authors, options.rate) = (authors, rate);
        options.duration = seconds.map(Duration::from_secs);
        options.presigned = seconds.is_some();
        options.workload.mix.hot_authors = hot.map(|(authors, transactions)| HotAuthors {
            authors: Share::percent(authors),
            transactions: Share::percent(transactions),
        });
        Ahead::of(&options)
    }

    #[test]
    fn many_authors_sign_no_more_than_is_offered() {
        let many = ahead(1_000_000, 10_000, Some(30), None);
        assert_eq!((many.beginning, many.total()), (300_000, 300_000));
        assert_eq!((many.links(299_999), many.links(300_000)), (1, 0));
    }

    #[test]
    fn few_authors_sign_their_share_and_some_more() {
        let few = ahead(4_000, 10_000, Some(30), None);
        assert_eq!((few.beginning, few.links(0)), (4_000, 75 + 18 + SPARE));
        assert_eq!(few.total(), 4_000 * few.links(3_999));
    }

    #[test]
    fn without_presigning_each_signs_its_first() {
        let endless = ahead(4_096, 10, None, None);
        assert_eq!((endless.beginning, endless.total()), (4_096, 4_096));
    }

    #[test]
    fn hot_authors_sign_more_but_not_more_than_can_become_final() {
        let hot = ahead(1_000, 1_000, Some(9), Some((1, 20)));
        assert_eq!((hot.hot_authors, hot.links(9)), (10, 180 + 45 + SPARE));
        assert_eq!(hot.links(10), 8 + 2 + SPARE, "7,200 by 990 authors");
        let burning = ahead(1_000, 1_000, Some(9), Some((1, 90)));
        assert_eq!(burning.links(0), 500 + 125 + SPARE);
        assert_eq!(burning.links(10), 5 + 1 + SPARE, "4,000 by 990 authors");
    }
}
