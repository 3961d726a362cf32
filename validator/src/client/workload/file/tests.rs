//! Checks of mixes in files: the samples, every key, and every way to be wrong.

use super::*;

const LEAST: &str = "version = 1\nname = \"x\"\n[records]\nbytes = [300]\n";

fn wrong(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn percent(text: &str) -> Share {
    Share::parse(text).unwrap()
}

#[test]
fn the_samples_are_mixes_and_show_every_key() {
    let samples = [
        ("transfers", include_str!("../../../../../mixes/transfers.toml")),
        ("hot", include_str!("../../../../../mixes/hot.toml")),
        ("hostile", include_str!("../../../../../mixes/hostile.toml")),
    ];
    for (name, text) in samples {
        assert_eq!(parse(text).unwrap().name.as_deref(), Some(name));
    }
    let all: String = samples.iter().map(|(_, text)| *text).collect();
    for (key, _) in KEYS {
        let name = key.rsplit('.').next().unwrap();
        assert!(all.lines().any(|line| line.starts_with(&format!("{name} = "))), "{key}");
    }
    let hostile = parse(samples[2].1).unwrap();
    assert_eq!((hostile.invalid, hostile.duplicates), (percent("30"), percent("20")));
}

#[test]
fn every_key_is_read() {
    let text = "version = 1\nname = \"all-of_it\"\n\
                [records]\nbytes = [156, 65536]\npercent = [99.5, 0.5]\n\
                [transfers]\npercent = 40\nhot_percent = 60\nhot_receivers = 8\nnew_percent = 40\n\
                [authors]\nhot_percent = 0.1\nhot_transactions_percent = 50\n\
                [hostile]\ninvalid_percent = 10\nduplicate_percent = 90\n";
    let expected = Mix {
        name: Some("all-of_it".into()),
        records: vec![
            RecordSize { bytes: 156, share: percent("99.5") },
            RecordSize { bytes: 65_536, share: percent("0.5") },
        ],
        transfers: percent("40"),
        hot_receivers: Some(HotReceivers { share: percent("60"), count: 8 }),
        new_receivers: percent("40"),
        hot_authors: Some(HotAuthors { authors: percent("0.1"), transactions: percent("50") }),
        invalid: percent("10"),
        duplicates: percent("90"),
    };
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn what_is_not_said_is_as_on_the_command_line() {
    let expected = Mix { name: Some("x".into()), ..Mix::plain(300, Share::NONE) };
    assert_eq!(parse(LEAST).unwrap(), expected);
    let only = "version = 1\nname = \"x\"\n[transfers]\npercent = 100\n";
    assert_eq!(parse(only).unwrap().records, []);
}

#[test]
fn what_is_missing_is_named_with_what_to_write() {
    for (text, part) in [
        ("name = \"x\"", "version is missing: write version = 1"),
        ("version = 1", "name is missing: write name = "),
        ("version = 1\nname = \"x\"", "records.bytes is missing: write bytes = [512]"),
        (
            "version = 1\nname = \"x\"\n[records]\npercent = [100]",
            "line 4: records.percent needs records.bytes",
        ),
        (
            "version = 1\nname = \"x\"\n[records]\nbytes = [200, 300]",
            "records.percent is missing: write the shares of the 2 sizes",
        ),
    ] {
        assert!(wrong(text).starts_with(part), "{}", wrong(text));
    }
    for (added, part) in [
        ("[transfers]\nhot_percent = 5", "line 6: transfers.hot_percent needs transfers"),
        ("[transfers]\nnew_percent = 5", "line 6: transfers.new_percent needs transfers"),
        (
            "[transfers]\npercent = 5\nhot_percent = 5",
            "line 7: transfers.hot_percent needs transfers.hot_receivers: write hot_receivers = 8",
        ),
        (
            "[transfers]\npercent = 5\nhot_receivers = 5",
            "line 7: transfers.hot_receivers needs transfers.hot_percent",
        ),
        (
            "[authors]\nhot_percent = 5",
            "line 6: authors.hot_percent needs authors.hot_transactions_percent",
        ),
        (
            "[authors]\nhot_transactions_percent = 5",
            "line 6: authors.hot_transactions_percent needs authors.hot_percent",
        ),
    ] {
        let error = wrong(&format!("{LEAST}{added}\n"));
        assert!(error.starts_with(part), "{error}");
    }
}

#[test]
fn shares_that_do_not_add_up_are_named_with_their_sum() {
    let sizes = |rest: &str| format!("version = 1\nname = \"x\"\n[records]\n{rest}");
    for (text, part) in [
        (
            sizes("bytes = [200, 300]\npercent = [60, 30.5]"),
            "line 5: records.percent must add up to 100, found 90.5",
        ),
        (
            sizes("bytes = [200, 300]\npercent = [60, 50]"),
            "line 5: records.percent must add up to 100, found 110",
        ),
        (
            sizes("bytes = [200, 300]\npercent = [100]"),
            "line 5: records.percent must have one share for each of the 2 sizes",
        ),
        (
            format!(
                "{LEAST}[transfers]\npercent = 5\nhot_percent = 60\nhot_receivers = 1\nnew_percent = 41"
            ),
            "line 9: transfers.hot_percent and transfers.new_percent must add up to at most 100, \
             found 101",
        ),
        (
            format!("{LEAST}[hostile]\ninvalid_percent = 51\nduplicate_percent = 50"),
            "line 7: hostile.invalid_percent and hostile.duplicate_percent must add up to at most \
             100, found 101",
        ),
        (
            format!("{LEAST}[authors]\nhot_percent = 0\nhot_transactions_percent = 50"),
            "line 6: authors.hot_percent must be above 0 and below 100, found 0",
        ),
        (
            format!("{LEAST}[authors]\nhot_percent = 50\nhot_transactions_percent = 20"),
            "line 6: hot authors send more than others",
        ),
    ] {
        let error = wrong(&text);
        assert!(error.starts_with(part), "{error}");
    }
}

#[test]
fn values_of_another_shape_are_told_what_they_must_be() {
    for (line, part) in [
        ("version = 2", "line 1: version must be 1, found 2"),
        ("version = \"1\"", "line 1: version must be 1, found \"1\""),
        ("name = \"\"", "line 1: name must be a text of 1 to 40"),
        ("name = \"a b\"", "line 1: name must be a text of 1 to 40"),
        ("name = 3", "line 1: name must be a text of 1 to 40"),
        ("records.bytes = 512", "line 1: records.bytes must be a list"),
        ("records.bytes = []", "line 1: records.bytes must be a list of 1 to 16"),
        ("records.bytes = [155]", "numbers from 156 to 65536, such as [256, 1024], found [155]"),
        ("records.bytes = [65537]", "found [65537]"),
        ("records.bytes = [true]", "found [true]"),
        ("records.percent = [101]", "line 1: records.percent must be a list of percentages"),
        (
            "transfers.percent = 100.1",
            "line 1: transfers.percent must be a percentage from 0 to 100",
        ),
        ("transfers.percent = -1", "found -1"),
        ("transfers.percent = 0.00001", "at most four decimals, found 0.00001"),
        ("transfers.percent = nan", "found nan"),
        ("transfers.percent = 0x10", "transfers.percent must be a percentage"),
        ("transfers.hot_receivers = 0", "must be a whole number from 1 to 10000, found 0"),
        ("transfers.hot_receivers = 10001", "found 10001"),
        ("transfers.hot_receivers = 1979-05-27", "found a date"),
        ("authors.hot_percent = {}", "found a table"),
    ] {
        let error = wrong(line);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn unknown_keys_and_tables_are_named_with_a_guess() {
    for (text, part) in [
        ("nam = \"x\"", "line 1: unknown key nam; did you mean name?"),
        (
            "[transfers]\nhot_percentt = 1",
            "line 2: unknown key transfers.hot_percentt; did you mean transfers.hot_percent?",
        ),
        ("[author]\nhot_percent = 1", "line 1: unknown table [author]; did you mean [authors]?"),
        (
            "zzzzzzzzzz = 1",
            "line 1: unknown key zzzzzzzzzz; a mix has version, name, records.bytes",
        ),
        ("[qqqqqqqqqqqq]", "line 1: unknown table [qqqqqqqqqqqq]; a mix has"),
        ("records = 5", "line 1: unknown key records"),
        ("version = ", "line 1: "),
        ("name = \"x\"\nname = \"y\"", "line 2: duplicate key"),
    ] {
        let error = wrong(text);
        assert!(error.starts_with(part), "{error}");
    }
}
