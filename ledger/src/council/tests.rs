//! Tests of the council: every vote and its count, ballots bit by bit, and ledgers that cross changes of the set.

use std::net::SocketAddr;

use super::*;
use crate::audit::{AuditBlock, Auditor, Finding, Place, Summary, What};
use crate::block::Cut;
use crate::digest::{Height, View};
use crate::limits::COUNCIL_BYTES_MAX;
use crate::proof::{Claim, Link, Proof, Proved, Trusted};
use crate::testing::{Author, Builder, Dalek, Network, Stored, author, golden, key, public};

fn addresses(seed: u8) -> Addresses {
    let address = |port: u16| SocketAddr::from(([10, 0, 0, seed], port));
    Addresses { consensus: address(1), lanes: address(2), history: address(3) }
}

fn newcomer(seed: u8) -> Member {
    Member { key: public(&key(seed)), addresses: Some(addresses(seed)) }
}

fn network() -> Network {
    Network::with(Parameters { checkpoint_interval: 2, epoch_length: 128, ..Parameters::default() })
}

fn council() -> Council {
    Council::genesis(&network().genesis)
}

const ANY: KeyCheck = KeyCheck(|_| true);

/// Has the first `count` members approve.
fn approve(council: &mut Council, change: &Change, count: usize) {
    for key in council.term.set.keys().to_vec().iter().take(count) {
        assert!(council.vote(key, &Ballot::Approve(change.clone()), ANY));
    }
}

fn turn(council: &mut Council) -> Vec<PublicKey> {
    council.decide();
    // Otherwise readiness of those who are decided on would add up beyond what a checkpoint has room for.
    assert!(council.ready.len() <= council.motions.len());
    council.turn();
    council.term.set.keys().to_vec()
}

#[test]
fn a_quorum_and_the_newcomers_word_add_a_member() {
    let change = Change::Add(newcomer(7));
    for (approvals, ready, added) in [(3, true, true), (2, true, false), (4, false, false)] {
        let mut council = council();
        approve(&mut council, &change, approvals);
        if ready {
            assert!(council.vote(&newcomer(7).key, &Ballot::Ready, ANY));
        }
        assert_eq!(council.newcomers().copied().collect::<Vec<_>>(), [newcomer(7)]);
        let keys = turn(&mut council);
        assert_eq!(keys.contains(&newcomer(7).key), added, "{approvals} approvals, {ready}");
        assert_eq!((keys.len(), council.epoch()), (4 + usize::from(added), 1));
        assert_eq!(council.motions().len(), usize::from(!added));
        // It stays open, and counts in the next epoch.
        if !added && !ready {
            assert!(council.vote(&newcomer(7).key, &Ballot::Ready, ANY));
            assert_eq!(turn(&mut council).len(), 5);
        }
    }
}

#[test]
fn whom_an_honest_member_wants_may_follow() {
    let mut council = council();
    let keys = council.term.set.keys().to_vec();
    for seed in (10..).take(APPROVALS_MAX) {
        assert!(council.vote(&keys[0], &Ballot::Approve(Change::Add(newcomer(seed))), ANY));
    }
    assert_eq!(council.newcomers().count(), 0, "one may lie");
    assert!(council.vote(&keys[1], &Ballot::Approve(Change::Add(newcomer(12))), ANY));
    assert_eq!(council.newcomers().copied().collect::<Vec<_>>(), [newcomer(12)]);
}

#[test]
fn one_short_of_a_quorum_never_takes_effect() {
    let mut council = council();
    let change = Change::Remove(council.term.set.keys()[3]);
    approve(&mut council, &change, 2);
    for _ in 0..20 {
        assert_eq!(turn(&mut council).len(), 4);
    }
    let third = council.term.set.keys()[2];
    assert!(council.vote(&third, &Ballot::Approve(change.clone()), ANY));
    assert!(council.vote(&third, &Ballot::Withdraw(change), ANY));
    assert_eq!(turn(&mut council).len(), 4);
}

#[test]
fn votes_that_nobody_may_give_change_nothing() {
    let mut council = council();
    let keys = council.term.set.keys().to_vec();
    let (member, stranger) = (keys[0], newcomer(9).key);
    let add = Change::Add(newcomer(7));
    let before = council.clone();
    let refused = [
        (stranger, Ballot::Approve(add.clone())),
        (member, Ballot::Withdraw(add.clone())),
        (member, Ballot::Ready),
        (stranger, Ballot::Ready),
        (member, Ballot::Approve(Change::Remove(stranger))),
        (member, Ballot::Approve(Change::Add(Member { key: keys[2], ..newcomer(7) }))),
        (member, Ballot::Approve(Change::Replace(stranger, newcomer(7)))),
        (member, Ballot::Approve(Change::Replace(keys[1], Member { key: keys[2], ..newcomer(7) }))),
        (member, Ballot::Approve(Change::Rates(*council.term.rates()))),
    ];
    for (who, ballot) in refused {
        assert!(!council.vote(&who, &ballot, ANY), "{ballot:?}");
        assert_eq!(council, before);
    }
    assert!(!council.vote(&member, &Ballot::Approve(add.clone()), KeyCheck(|_| false)));
    assert!(council.vote(&member, &Ballot::Approve(add.clone()), ANY));
    assert!(!council.vote(&member, &Ballot::Approve(add.clone()), ANY), "twice");
    assert!(!council.vote(&keys[1], &Ballot::Withdraw(add.clone()), ANY), "it did not approve");
    assert!(council.vote(&newcomer(7).key, &Ballot::Ready, ANY));
    assert!(!council.vote(&newcomer(7).key, &Ballot::Ready, ANY), "twice");
    assert!(council.vote(&member, &Ballot::Withdraw(add), ANY));
    assert_eq!(council, before, "nobody wants it any more");
}

#[test]
fn a_member_approves_of_a_few_motions_at_a_time() {
    let mut council = council();
    let keys = council.term.set.keys().to_vec();
    for seed in (10..).take(APPROVALS_MAX) {
        assert!(council.vote(&keys[0], &Ballot::Approve(Change::Add(newcomer(seed))), ANY));
    }
    let more = Ballot::Approve(Change::Add(newcomer(30)));
    assert!(!council.vote(&keys[0], &more, ANY));
    assert!(council.vote(&keys[1], &more, ANY));
    assert!(council.vote(&keys[0], &Ballot::Withdraw(Change::Add(newcomer(10))), ANY));
    assert!(council.vote(&keys[0], &more, ANY));
}

#[test]
fn motions_take_effect_in_their_order_as_far_as_they_apply() {
    let mut council = council();
    let keys = council.term.set.keys().to_vec();
    let replace = Change::Replace(keys[0], newcomer(7));
    approve(&mut council, &replace, 3);
    // It does not apply any more once the first has.
    approve(&mut council, &Change::Remove(keys[0]), 3);
    let mut rates = *council.term.rates();
    rates.base_fee = 77;
    approve(&mut council, &Change::Rates(rates), 3);
    assert!(council.vote(&newcomer(7).key, &Ballot::Ready, ANY));
    let after = turn(&mut council);
    assert_eq!(after.len(), 4);
    assert!(after.contains(&newcomer(7).key) && !after.contains(&keys[0]));
    assert_eq!(council.term.rates().base_fee, 77);
    assert!(council.motions().is_empty() && council.ready.is_empty());
}

#[test]
fn who_left_has_no_vote_and_who_stays_keeps_it_at_its_new_place() {
    let mut council = council();
    let keys = council.term.set.keys().to_vec();
    let add = Change::Add(newcomer(7));
    for key in [keys[0], keys[3]] {
        assert!(council.vote(&key, &Ballot::Approve(add.clone()), ANY));
    }
    let own = Change::Add(newcomer(8));
    assert!(council.vote(&keys[0], &Ballot::Approve(own), ANY));
    let remove = Change::Remove(keys[0]);
    for key in &keys[1..] {
        assert!(council.vote(key, &Ballot::Approve(remove.clone()), ANY));
    }
    assert_eq!(turn(&mut council), keys[1..]);
    let motion = Motion { change: add, approvals: Bitmap(0b100) };
    assert_eq!(council.motions(), [motion], "what only a former member wanted is gone");
}

#[test]
fn between_decision_and_turn_votes_are_for_the_next_epoch() {
    let mut council = council();
    let keys = council.term.set.keys().to_vec();
    approve(&mut council, &Change::Remove(keys[3]), 3);
    council.decide();
    assert_eq!(council.next().unwrap().set().len(), 3);
    let again = Ballot::Approve(Change::Remove(keys[3]));
    assert!(!council.vote(&keys[0], &again, ANY), "it is done");
    approve(&mut council, &Change::Remove(keys[2]), 3);
    council.turn();
    assert_eq!(council.term.set.len(), 3);
    assert_eq!(turn(&mut council).len(), 2);
}

#[test]
fn another_address_is_a_replacement_by_oneself() {
    let mut council = council();
    let member = Member { key: council.term.set.keys()[1], addresses: Some(addresses(9)) };
    let change = Change::Replace(member.key, member);
    approve(&mut council, &change, 3);
    let before = council.term.set.clone();
    turn(&mut council);
    assert_eq!((council.term.set(), council.term.members()[1]), (&before, member));
}

#[test]
fn the_last_member_stays() {
    let mut council = council();
    while council.term.set.len() > 1 {
        let change = Change::Remove(council.term.set.keys()[0]);
        let quorum = council.term.set.quorum();
        approve(&mut council, &change, quorum);
        turn(&mut council);
    }
    let last = council.term.set.keys()[0];
    assert!(!council.vote(&last, &Ballot::Approve(Change::Remove(last)), ANY));
}

fn ballots() -> Vec<Ballot> {
    let rates = Rates::of(&Parameters { retention: 9, ..Parameters::default() });
    let v6 = |port| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port));
    let addresses = Addresses { consensus: v6(70), lanes: v6(71), history: v6(72) };
    let far = Member { key: PublicKey([6; 32]), addresses: Some(addresses) };
    vec![
        Ballot::Approve(Change::Add(newcomer(7))),
        Ballot::Approve(Change::Remove(PublicKey([5; 32]))),
        Ballot::Withdraw(Change::Replace(PublicKey([5; 32]), far)),
        Ballot::Approve(Change::Rates(rates)),
        Ballot::Ready,
    ]
}

#[test]
fn ballots_have_one_encoding() {
    for ballot in ballots() {
        let bytes = ballot.encode();
        assert!(bytes.len() <= BALLOT_BYTES_MAX);
        assert_eq!(Ballot::decode(&bytes), Ok(ballot));
        for length in 0..bytes.len() {
            assert_eq!(Ballot::decode(&bytes[..length]), Err(Reject::BallotBody));
        }
        assert_eq!(Ballot::decode(&[&bytes[..], &[0]].concat()), Err(Reject::BallotBody));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Ballot::decode(&flipped) {
                assert_eq!(other.encode(), flipped);
            }
        }
    }
    let network = network();
    let mut author = author(0);
    let bytes = author.say(&network.digest(), &ballots()[2]);
    golden("transaction_council", &bytes, |bytes| {
        let transaction = crate::Transaction::decode(bytes)?;
        if let Some(ballot) = transaction.ballot() {
            assert_eq!(ballot.encode(), transaction.body());
        }
        let whole = blake3::hash(transaction.bytes());
        Ok((transaction.bytes().to_vec(), Digest(*whole.as_bytes())))
    });
}

#[test]
fn addresses_that_nobody_can_reach_are_no_ballot() {
    let good = Ballot::Approve(Change::Add(newcomer(7))).encode();
    let at = |offset: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ballot::decode(&changed)
    };
    let first = 8 + 8 + 32 + 1;
    assert_eq!(at(first + 16, &[0, 0]), Err(Reject::BallotBody), "port 0");
    assert_eq!(at(first, &[0; 16]), Err(Reject::BallotBody), "unspecified");
    assert_eq!(at(first + 12, &[224]), Err(Reject::BallotBody), "multicast");
    assert_eq!(at(first - 1, &[0]), Err(Reject::BallotBody), "none");
    let mut high = *council().term().rates();
    high.base_fee = u64::MAX;
    let rates = Ballot::Approve(Change::Rates(high)).encode();
    assert_eq!(Ballot::decode(&rates), Err(Reject::BallotBody));
}

#[test]
fn a_council_comes_back_and_the_largest_fits() {
    let member = |number: u8| Member { key: PublicKey([number; 32]), ..newcomer(number) };
    let members: Vec<Member> = (1..=100).map(member).collect();
    let rates = *council().term().rates();
    let term = Term::new(members, rates).unwrap();
    let mut largest = Council { term: term.clone(), next: Some(term), ..council() };
    for motion in 0..MOTIONS_MAX {
        let byte = u8::try_from(motion / 2).unwrap();
        let newcomer = Member { key: PublicKey([byte; 32]), ..newcomer(200) };
        let change = Change::Replace(PublicKey([1; 32]), newcomer);
        largest.motions.push(Motion { change, approvals: Bitmap(1) });
        largest.ready.push(PublicKey([byte; 32]));
    }
    for council in [council(), largest] {
        let bytes = council.encode();
        assert!(bytes.len() + 8 <= COUNCIL_BYTES_MAX);
        let mut reader = Reader::new(&bytes);
        let again = Council::read(&mut reader, council.epochs(), council.epoch()).unwrap();
        assert_eq!(reader.rest(), b"");
        assert_eq!(again.digest(), council.digest());
        assert_eq!(again, council);
        if council.motions.len() == MOTIONS_MAX {
            assert_eq!(bytes.len() + 8, COUNCIL_BYTES_MAX);
        }
    }
}

/// A ledger that goes from four validators to five, back to four, and replaces a key; nobody votes in the last epoch.
struct Story {
    builder: Builder,
    ledger: Vec<Stored>,
    /// The last block of each epoch that another set follows, and what follows.
    links: Vec<Link>,
    members: Vec<Author>,
    record: Vec<u8>,
}

impl Story {
    fn new() -> Self {
        let network = network();
        let members: Vec<Author> = (1..=6).map(Author::new).collect();
        let mut giver = author(0);
        let given: Vec<Vec<u8>> = members
            .iter()
            .map(|member| giver.transfer(&network.digest(), member.public(), 50_000))
            .collect();
        let record = author(1).record(&network.digest(), b"of the first epoch");
        let mut builder = Builder::new(&network);
        builder.batch(0, &given);
        builder.batch(1, std::slice::from_ref(&record));
        let mut story = Self { builder, ledger: Vec::new(), links: Vec::new(), members, record };
        story.block();
        let five = Change::Add(newcomer(5));
        story.say(&[0, 1, 2], &Ballot::Approve(five));
        story.say(&[4], &Ballot::Ready);
        story.turn();
        assert_eq!(story.builder.chain.set().len(), 5);
        let first = story.members[3].public();
        story.say(&[0, 1, 2, 4], &Ballot::Approve(Change::Remove(first)));
        story.turn();
        assert_eq!(story.builder.chain.set().len(), 4);
        story.say(
            &[0, 1, 4],
            &Ballot::Approve(Change::Replace(story.members[0].public(), newcomer(6))),
        );
        story.say(&[5], &Ballot::Ready);
        story.turn();
        let set = story.builder.chain.set();
        assert!(set.index_of(&newcomer(6).key).is_some());
        assert_eq!(set.index_of(&story.members[0].public()), None);
        story.turn();
        story.block();
        story
    }

    fn say(&mut self, who: &[usize], ballot: &Ballot) {
        let network = self.builder.network.digest();
        let said: Vec<Vec<u8>> =
            who.iter().map(|member| self.members[*member].say(&network, ballot)).collect();
        self.builder.batch(2, &said);
        self.block();
        let outcomes = crate::OutcomeList::decode(&self.ledger.last().unwrap().outcomes).unwrap();
        assert!(outcomes.outcomes.iter().all(|(_, outcome)| *outcome == crate::Outcome::Applied));
    }

    fn block(&mut self) {
        let seats = self.builder.seats();
        let (stored, executed) = self.builder.block();
        if stored.set.is_some() {
            assert!(executed.turned);
            let cut = Cut::decode(&stored.cut).unwrap();
            let next = self.builder.chain.set().clone();
            self.links.push(Link::new(cut.header(), seats.finalize(&cut), next).unwrap());
        }
        self.ledger.push(stored);
    }

    /// Goes on to the start of the next epoch, with something in the way that is void then.
    fn turn(&mut self) {
        let epoch = self.builder.chain.epoch();
        let last = self.builder.chain.state().council().epochs().last(epoch);
        while self.builder.chain.height() < last {
            self.block();
        }
        assert_eq!(self.builder.chain.epoch(), epoch + 1);
    }

    fn replay(&self, change: impl Fn(usize, &mut Stored)) -> Result<Summary, Finding> {
        let mut auditor = Auditor::new(&self.builder.network.genesis, &Dalek);
        for (place, stored) in self.ledger.iter().enumerate() {
            let mut stored = stored.clone();
            change(place, &mut stored);
            let batches: Vec<&[u8]> = stored.batches.iter().map(Vec::as_slice).collect();
            auditor.block(&AuditBlock {
                cut: &stored.cut,
                certificate: stored.certificate.as_deref(),
                outcomes: &stored.outcomes,
                batches: &batches,
                set: stored.set.as_deref(),
            })?;
        }
        auditor.finish()
    }
}

#[test]
fn an_audit_crosses_changes_of_the_set() {
    let story = Story::new();
    let summary = story.replay(|_, _| {}).unwrap();
    assert_eq!(summary.blocks, 4 * 128);
    assert_eq!(story.links.len(), 3);
    let turns: Vec<usize> =
        (0..story.ledger.len()).filter(|place| story.ledger[*place].set.is_some()).collect();
    assert_eq!(turns, [126, 254, 382]);
    let wrong = |what: fn(&mut Stored), place: usize| {
        let finding = story
            .replay(|at, stored| {
                if at == place {
                    what(stored)
                }
            })
            .unwrap_err();
        (finding.height.0 - 1, finding.place, finding.what)
    };
    assert_eq!(wrong(|it| it.set = None, 126), (126, Place::Set, What::Absent));
    let one = |it: &mut Stored| it.set.as_mut().unwrap()[9] ^= 1;
    assert_eq!(wrong(one, 254), (254, Place::Set, What::Differs));
    assert_eq!(wrong(|it| it.set = Some(vec![]), 3), (3, Place::Set, What::Uncommitted));
}

#[test]
fn a_set_cannot_vouch_for_how_it_came_to_be() {
    let story = Story::new();
    let strip = |from: usize, to: usize| {
        story.replay(|place, stored| {
            if (from..=to).contains(&(place + 1)) {
                stored.certificate = None;
            }
        })
    };
    // The deciding height of the first epoch is 63, its last one 127.
    assert_eq!(strip(64, 200).map(|summary| summary.blocks), Ok(4 * 128));
    let finding = strip(63, 127).unwrap_err();
    assert_eq!(
        (finding.height.0, finding.place, finding.what),
        (128, Place::Certificate, What::Uncovered)
    );
    // Where the set stays, its own later certificates cover what was before.
    assert!(strip(3 * 128 + 63, 3 * 128 + 127).is_ok());
}

#[test]
fn who_was_removed_and_who_is_not_there_yet_cannot_decide() {
    let mut story = Story::new();
    let seats = story.builder.seats();
    let mut cut = story.builder.cut();
    let set = story.builder.chain.set().clone();
    let good = seats.finalize(&cut);
    assert_eq!(good.check(&cut.network, &set, &Dalek), Ok(()));
    let first =
        crate::testing::Seats::of(cut.network, cut.epoch, story.builder.network.genesis.set());
    assert!(first.finalize(&cut).check(&cut.network, &set, &Dalek).is_err());
    // No block of the chain names another set.
    cut.next_set = story.builder.network.genesis.set().digest();
    let digest = cut.digest();
    let nothing: Vec<Vec<crate::Batch<'static>>> = vec![Vec::new(); set.len()];
    let refused = story.builder.chain.execute(&cut, &digest, &nothing).map(|_| ());
    assert_eq!(refused, Err(Reject::WrongSet));
}

#[test]
fn a_proof_crosses_changes_of_the_set_from_the_genesis() {
    let story = Story::new();
    let network = story.builder.network.clone();
    let trusted = Trusted::genesis(&network.genesis);
    let key = story.members[4].public();
    let cut = story.builder.cut();
    let make = |links: &[Link]| {
        let claim = Claim::State(story.builder.chain.prove(&key));
        Proof::new(links.to_vec(), cut.header(), story.builder.seats().finalize(&cut), claim)
            .unwrap()
    };
    let proof = make(&story.links);
    let again = Proof::decode(&proof.encode()).unwrap();
    assert_eq!(again, proof);
    let proved = again.check(&trusted, &Dalek).unwrap();
    assert!(matches!(proved, Proved::Account { key: found, height, .. }
        if found == key && height == Height(512)));
    for skipped in 0..3 {
        let mut links = story.links.clone();
        links.remove(skipped);
        assert_eq!(make(&links).check(&trusted, &Dalek), Err(Reject::WrongSet), "{skipped}");
    }
    let mut links = story.links.clone();
    links.swap(0, 1);
    assert_eq!(make(&links).check(&trusted, &Dalek), Err(Reject::WrongSet));
    // The set that a link leads to is what its header names.
    let first = &story.ledger[126];
    let header = Cut::decode(&first.cut).unwrap();
    let forged = crate::testing::Seats::of(header.network, 0, network.genesis.set());
    let link = |cut: &Cut, next: ValidatorSet| {
        Link::new(cut.header(), forged.finalize(cut), next).unwrap()
    };
    let mut links = story.links.clone();
    links[0] = link(&header, story.builder.chain.set().clone());
    assert_eq!(make(&links).check(&trusted, &Dalek), Err(Reject::WrongSet));
    let mut quiet = header.clone();
    quiet.next_set = quiet.set;
    links[0] = link(&quiet, network.genesis.set().clone());
    assert_eq!(
        make(&links).check(&trusted, &Dalek),
        Err(Reject::WrongSet),
        "nothing changes there"
    );
    // A quorum of nobody's.
    let mut own = header;
    own.view = View(own.view.0 + 1);
    let alone = Link::new(
        own.header(),
        story.builder.seats().finalize(&own),
        story.links[0].next().clone(),
    );
    links[0] = alone.unwrap();
    assert_eq!(make(&links).check(&trusted, &Dalek), Err(Reject::BadSignature));
    golden("proof_links", &proof.encode(), |bytes| {
        let proof = Proof::decode(bytes)?;
        let Proved::Account { key, .. } = proof.check(&trusted, &Dalek)? else { panic!("a key") };
        Ok((proof.encode(), Digest(key.0)))
    });
    let genesis = network.genesis.to_json();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/proof_links_genesis.json");
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(path, &genesis).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), genesis);
    // The record of the first epoch, long after.
    assert!(crate::Transaction::decode(&story.record).is_ok());
}

#[test]
fn a_chain_restored_in_a_later_epoch_goes_on() {
    let story = Story::new();
    let chain = &story.builder.chain;
    let checkpoint = chain.checkpoint().unwrap();
    let bytes = checkpoint.encode();
    let accounts = chain.state().accounts().map(|(key, account)| (*key, *account)).collect();
    let checkpoint = crate::Checkpoint::decode(&bytes).unwrap();
    let genesis = &story.builder.network.genesis;
    let restored = crate::Chain::restore(genesis, checkpoint, accounts).unwrap();
    assert_eq!(restored.state().council(), chain.state().council());
    let (mut one, mut two) = (story.builder.clone(), story.builder.clone());
    two.chain = restored;
    for _ in 0..130 {
        assert_eq!(one.block().1, two.block().1);
    }
    assert_eq!(one.chain.epoch(), 5);
}

#[test]
fn rates_are_in_effect_from_the_next_epoch_on() {
    let mut story = Story::new();
    let mut rates = *story.builder.chain.state().council().term().rates();
    rates.base_fee = 1_000;
    rates.lane_quota_bytes = 1 << 20;
    story.say(&[1, 4, 5], &Ballot::Approve(Change::Rates(rates)));
    assert_eq!(story.builder.chain.state().parameters().base_fee, 10);
    story.turn();
    let parameters = *story.builder.chain.state().parameters();
    assert_eq!((parameters.base_fee, parameters.epoch_length), (1_000, 128));
    assert!(story.builder.chain.state().lanes().iter().all(|lane| lane.quota_bytes == 1 << 20));
    assert!(story.replay(|_, _| {}).is_ok());
}
