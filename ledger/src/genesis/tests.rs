//! Tests of the genesis file: every field that can be wrong, its digest, its size.

use super::*;
use crate::testing::{BALANCE, Network};

const GENESIS: &str = include_str!("../../golden/genesis.json");

fn accept(_: &[u8; 32]) -> bool {
    true
}

fn sample() -> Genesis {
    Network::with(Parameters::default()).genesis
}

#[test]
fn the_golden_sample_holds() {
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        std::fs::write(folder.join("genesis.json"), sample().to_json()).unwrap();
    }
    assert_eq!(sample().to_json(), GENESIS, "the format has changed");
    let genesis = Genesis::from_json(GENESIS, accept).unwrap();
    assert_eq!(genesis, sample());
    assert_eq!(genesis.digest().to_string(), DIGEST);
}

const DIGEST: &str = "d66c95b344c6ee2c9d7c5006bec058bafbac2582f63eb0f6a7073ddd66feb019";

#[test]
fn parts_come_back() {
    let genesis = sample();
    assert_eq!((genesis.name(), genesis.set().len()), ("test", 4));
    assert!(genesis.accounts().iter().all(|account| account.balance == BALANCE));
    assert_eq!(*genesis.parameters(), Parameters::default());
}

#[test]
fn the_digest_is_that_of_its_layout() {
    let genesis = sample();
    let mut bytes = vec![2, 4, 0, 0, 0];
    bytes.extend_from_slice(b"test");
    bytes.extend_from_slice(&[4, 0, 0, 0]);
    for key in genesis.set().keys() {
        bytes.extend_from_slice(&key.0);
    }
    bytes.extend_from_slice(&[5, 0, 0, 0]);
    for account in genesis.accounts() {
        bytes.extend_from_slice(&account.key.0);
        bytes.extend_from_slice(&BALANCE.to_le_bytes());
    }
    for number in [10_u64, 1, 1_000, 256, 100_000, 16 << 20, 4_096] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let digest = blake3::derive_key("althing 2026 genesis v2", &bytes);
    assert_eq!(genesis.digest().0, digest);
}

#[test]
fn the_digest_covers_every_part() {
    let genesis = sample();
    let (validators, accounts) = (genesis.set().keys().to_vec(), genesis.accounts().to_vec());
    let make = |name: &str, validators: &[PublicKey], accounts: &[GenesisAccount], parameters| {
        let (validators, accounts) = (validators.to_vec(), accounts.to_vec());
        Genesis::new(name.into(), validators, accounts, parameters, accept).unwrap().digest()
    };
    let standard = Parameters::default();
    let mut richer = accounts.clone();
    richer[0].balance += 1;
    let mut digests = vec![
        genesis.digest(),
        make("other", &validators, &accounts, standard),
        make("test", &validators[1..], &accounts, standard),
        make("test", &validators, &accounts[1..], standard),
        make("test", &validators, &richer, standard),
    ];
    for parameters in [
        Parameters { base_fee: 11, ..standard },
        Parameters { fee_per_byte: 2, ..standard },
        Parameters { account_deposit: 1_001, ..standard },
        Parameters { checkpoint_interval: 255, ..standard },
        Parameters { retention: 100_001, ..standard },
        Parameters { lane_quota_bytes: 1 << 20, ..standard },
        Parameters { epoch_length: 4_095, ..standard },
    ] {
        digests.push(make("test", &validators, &accounts, parameters));
    }
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
    assert_eq!(make("test", &validators, &accounts, standard), genesis.digest());
}

#[test]
fn parameters_have_defaults_and_no_unknown_keys() {
    let part = GENESIS.find(",\n  \"parameters\"").unwrap();
    let short = format!("{}}}", &GENESIS[..part]);
    assert_eq!(Genesis::from_json(&short, accept).unwrap(), sample());
    let one = GENESIS.replace("\"base_fee\": 10", "\"base_fee\": 12");
    assert_eq!(Genesis::from_json(&one, accept).unwrap().parameters().base_fee, 12);
    for (from, to) in [("base_fee", "base_fees"), ("name", "title"), ("balance", "amount")] {
        let text = GENESIS.replacen(from, to, 1);
        let error = Genesis::from_json(&text, accept).unwrap_err();
        assert!(error.to_string().contains(&format!("unknown field `{to}`")), "{error}");
        assert!(error.to_string().contains("line"), "{error}");
    }
}

#[test]
fn broken_text_is_refused_with_its_place() {
    let error = Genesis::from_json("{", accept).unwrap_err();
    assert!(matches!(error, Error::Json(_)), "{error}");
    let text = GENESIS.replacen("\n    \"", "\n    \"zz", 1);
    let error = Genesis::from_json(&text, accept).unwrap_err();
    assert!(error.to_string().contains("expected 64 hexadecimal digits"), "{error}");
}

#[test]
fn every_wrong_part_is_named() {
    let genesis = sample();
    let (validators, accounts) = (genesis.set().keys().to_vec(), genesis.accounts().to_vec());
    let make = |name: &str, validators: &[PublicKey], accounts: &[GenesisAccount]| {
        let (validators, accounts) = (validators.to_vec(), accounts.to_vec());
        let standard = Parameters::default();
        Genesis::new(name.into(), validators, accounts, standard, accept).unwrap_err()
    };
    for name in ["", "two\nlines", "þing", &"x".repeat(65)] {
        assert_eq!(make(name, &validators, &accounts), Error::Name);
    }
    assert_eq!(make("test", &[], &accounts), Error::ValidatorCount { found: 0 });
    let many: Vec<PublicKey> = (0..101).map(|number| PublicKey([number; 32])).collect();
    assert_eq!(make("test", &many, &accounts), Error::ValidatorCount { found: 101 });
    let twice = [validators[0], validators[1], validators[1]];
    assert_eq!(make("test", &twice, &accounts), Error::ValidatorOrder { index: 2 });
    let swapped = [accounts[1], accounts[0]];
    assert_eq!(make("test", &validators, &swapped), Error::AccountOrder { index: 1 });
    let mut rich = accounts.clone();
    rich[3].balance = u64::MAX;
    assert_eq!(make("test", &validators, &rich), Error::Supply { index: 3 });
    let crowd = vec![accounts[0]; GENESIS_ACCOUNTS_MAX + 1];
    let found = GENESIS_ACCOUNTS_MAX + 1;
    assert_eq!(make("test", &validators, &crowd), Error::AccountCount { found });
    fn check(key: &[u8; 32]) -> bool {
        *key != sample().set().keys()[2].0
    }
    let error = Genesis::from_json(GENESIS, check).unwrap_err();
    assert_eq!(error, Error::ValidatorKey { index: 2 });
    assert_eq!(
        error.to_string(),
        "genesis: validators[2]: not a canonical, torsion-free Ed25519 key"
    );
}

#[test]
fn every_parameter_has_a_range() {
    let genesis = sample();
    let name_of = |parameters: Parameters| match Genesis::new(
        "test".into(),
        genesis.set().keys().to_vec(),
        Vec::new(),
        parameters,
        accept,
    ) {
        Err(Error::Parameter { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let standard = Parameters::default();
    let most = u64::MAX;
    assert_eq!(name_of(Parameters { base_fee: most, ..standard }), "base_fee");
    assert_eq!(name_of(Parameters { fee_per_byte: most, ..standard }), "fee_per_byte");
    assert_eq!(name_of(Parameters { account_deposit: most, ..standard }), "account_deposit");
    let never = Parameters { checkpoint_interval: 0, ..standard };
    assert_eq!(name_of(never), "checkpoint_interval");
    assert_eq!(name_of(Parameters { retention: 0, ..standard }), "retention");
    let narrow = Parameters { lane_quota_bytes: 512 * 1024 - 1, ..standard };
    assert_eq!(name_of(narrow), "lane_quota_bytes");
    let short = Parameters { epoch_length: 127, ..standard };
    assert_eq!(name_of(short), "epoch_length");
    let wide = Parameters { lane_quota_bytes: 65 * 1024 * 1024, ..standard };
    assert_eq!(name_of(wide), "lane_quota_bytes");
}

#[test]
fn fees_do_not_overflow() {
    let most = Parameters { base_fee: PRICE_MAX, fee_per_byte: PRICE_MAX, ..Parameters::default() };
    let longest = crate::limits::TRANSACTION_BYTES_MAX;
    assert_eq!(most.fee(longest), PRICE_MAX + PRICE_MAX * length_u64(longest));
    assert_eq!(Parameters::default().fee(512), 522);
}
