//! The three rates beside a naive model, in random traffic.

use super::*;
use std::collections::BTreeMap;

/// The three rates with one textbook bucket for each place, in nanoseconds of credit.
///
/// A place is a tier (0 source, 1 network, 2 global) and a slot in its table.
struct Model {
    tiers: [Rate; 3],
    credit_ns: BTreeMap<(usize, usize), u64>,
    last_ns: u64,
}

impl Model {
    fn judge(&mut self, now_ns: u64, slots: [usize; 3]) -> Verdict {
        let interval_ns = self.tiers.map(|rate| SECOND_NS.div_ceil(rate.packets_per_second));
        let full_ns = |tier: usize| interval_ns[tier] * self.tiers[tier].burst_packets;
        for (&(tier, _), credit_ns) in &mut self.credit_ns {
            *credit_ns = (*credit_ns + now_ns - self.last_ns).min(full_ns(tier));
        }
        self.last_ns = now_ns;
        let rejects = [Reject::SourceRate, Reject::NetworkRate, Reject::GlobalRate];
        for (tier, slot) in slots.into_iter().enumerate() {
            let credit_ns = self.credit_ns.entry((tier, slot)).or_insert(full_ns(tier));
            if *credit_ns < interval_ns[tier] {
                return Verdict::Drop(rejects[tier]);
            }
        }
        for place in slots.into_iter().enumerate() {
            *self.credit_ns.get_mut(&place).unwrap() -= interval_ns[place.0];
        }
        Verdict::Pass
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_a_naive_model(
        source_rate in (1..5_000_u64, 1..6_u64),
        network_rate in (1..5_000_u64, 1..9_u64),
        global_rate in (1..5_000_u64, 1..12_u64),
        seed: [u8; 16],
        steps in prop::collection::vec((0..12_u32, 0..2_000_000_u64), 1..300),
    ) {
        let tiers = [source_rate, network_rate, global_rate].map(|(pps, burst)| rate(pps, burst));
        let [source, network, global] = tiers;
        let limits = Limits { source, network, global, loopback_exempt: true };
        let mut policy = Policy::new(&limits, seed).unwrap();
        let (mut model, mut now) = (Model { tiers, credit_ns: BTreeMap::new(), last_ns: 0 }, 0);
        let packet = packet();
        for (host, pause) in steps {
            now += pause;
            let from = v4(0x0a00_0000 + host / 4 * 256 + host % 4);
            let (host, network) = (from.host(), from.network());
            let slots = [
                policy.source.slot(host.0, host.1),
                policy.network.slot(network.0, network.1),
                0,
            ];
            let expected = model.judge(now, slots);
            prop_assert_eq!(policy.judge(now, &from, &packet), expected);
        }
    }
}
