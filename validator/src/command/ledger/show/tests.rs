//! Checks of what is shown of a stored ledger.

use super::super::fixture::Fixture;
use super::super::info;
use super::*;
use ledger::OutcomeList;

fn open(fixture: &Fixture, folder: &Path) -> Ledger {
    let location = Location::find(&fixture.store(folder)).unwrap();
    Ledger::open(&location, None).unwrap()
}

#[test]
fn every_transaction_is_found_with_its_height_and_its_very_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(5);
    let stored = open(&fixture, folder.path());
    for (id, body, height) in &fixture.transactions {
        let found = find(&stored, id).unwrap().unwrap();
        assert_eq!((found.height, found.outcome), (*height, Outcome::Applied));
        let bytes = found.bytes.unwrap();
        let transaction = Transaction::decode(&bytes).unwrap();
        assert_eq!(transaction.body(), body);
        assert_eq!(transaction.id(&fixture.genesis.digest()), *id);
        assert_eq!(anywhere(&stored, id).unwrap().unwrap(), bytes, "the slow way finds it too");
        for json in [false, true] {
            run(folder.path(), &What::Id(*id), false, 20, json).unwrap();
        }
        run(folder.path(), &What::Id(*id), true, 20, false).unwrap();
    }
    let unknown = Digest([1; 32]);
    let exit = run(folder.path(), &What::Id(unknown), false, 20, false).unwrap_err();
    assert!(exit.message().contains("is not final in this ledger"), "{exit}");
}

#[test]
fn blocks_are_shown_and_absent_ones_say_where_the_end_is() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(3);
    drop(open(&fixture, folder.path()));
    for json in [false, true] {
        run(folder.path(), &What::Height(2), false, 1, json).unwrap();
        info::run(folder.path(), json).unwrap();
    }
    let exit = run(folder.path(), &What::Height(4), false, 20, false).unwrap_err();
    assert!(exit.message().contains("the last is 3"), "{exit}");
    assert!(run(folder.path(), &What::Height(2), true, 20, false).is_err());
}

#[test]
fn the_first_time_counts_when_a_transaction_came_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(4);
    let (id, _, height) = fixture.transactions[2].clone();
    let mut again = |height: u64, outcome: Outcome| {
        fixture.replace(record::OUTCOMES, height, |bytes| {
            let mut list = OutcomeList::decode(bytes).unwrap();
            list.outcomes.push((id, outcome));
            *bytes = list.encode();
        });
    };
    again(4, Outcome::Stale);
    again(1, Outcome::Ahead);
    let stored = open(&fixture, folder.path());
    let found = find(&stored, &id).unwrap().unwrap();
    assert_eq!((found.height, found.outcome), (height, Outcome::Applied));
}

#[test]
fn a_height_and_an_id_are_told_apart() {
    assert_eq!("17".parse(), Ok(What::Height(17)));
    let id = "12".repeat(32);
    assert_eq!(id.parse(), Ok(What::Id(Digest([0x12; 32]))));
    for wrong in ["", "x", "-1", "1".repeat(40).as_str()] {
        let error = wrong.parse::<What>().unwrap_err();
        assert!(error.starts_with("neither a height"), "{error}");
    }
}
