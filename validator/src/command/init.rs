//! `init`: keys, a genesis and configurations, for one validator or for a whole network.

use super::network::{self, Network, Plan, make_folder, write_new};
use super::terminal::{say, thousands};
use super::{Exit, terminal};
use crate::config::{identity::load_genesis, schema};
use crate::key::{Cost, KeyFile, Secret, Source};
use crate::signer::guard::{self, Guard};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder to fill
    folder: PathBuf,
    /// Make a whole network of this many validators instead of one validator
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    validators: Option<u16>,
    /// The genesis file of the network that the one validator belongs to
    #[arg(long, value_name = "FILE", conflicts_with = "validators")]
    genesis: Option<PathBuf>,
    /// Encrypt the one validator's key under a passphrase
    #[arg(long, conflicts_with = "validators")]
    encrypt: bool,
    /// Read that passphrase from this open file descriptor; the terminal is asked without it
    #[arg(long, value_name = "N", requires = "encrypt", value_parser = super::key::descriptor())]
    passphrase_fd: Option<i32>,
    /// Name of the network
    #[arg(long, default_value = "althing", requires = "validators")]
    name: String,
    /// Address at which the network's validators listen
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", requires = "validators")]
    host: IpAddr,
    /// First port; each validator takes six
    #[arg(long, value_name = "PORT", default_value_t = 4_000, requires = "validators")]
    base_port: u16,
    /// Funded authors for `load`
    #[arg(long, value_name = "N", default_value_t = 0, requires = "validators")]
    authors: u32,
    /// Heights of an epoch, after which the validator set may be another
    #[arg(long, value_name = "HEIGHTS", value_parser = network::epoch_length(), requires = "validators")]
    epoch_length: Option<u64>,
    /// Seed of the authors' keys
    #[arg(long, default_value_t = 1, requires = "validators")]
    seed: u64,
}

/// Runs the command.
///
/// Errors: config, when something exists already or cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    match arguments.validators {
        Some(validators) => init_network(arguments, validators),
        None => {
            let source = arguments.encrypt.then(|| Source::of_flag(arguments.passphrase_fd));
            init_one(&arguments.folder, arguments.genesis.as_deref(), source.as_ref())
        }
    }
}

fn init_network(arguments: &Arguments, validators: u16) -> Result<(), Exit> {
    let listen = network::consecutive(arguments.host, arguments.base_port, validators)?;
    let plan = Plan {
        name: arguments.name.clone(),
        listen,
        authors: arguments.authors,
        seed: arguments.seed,
        epoch_length: arguments.epoch_length,
        settings: Vec::new(),
    };
    let network = Network::create(&arguments.folder, &plan)?;
    let folder = arguments.folder.display();
    let mut table = terminal::Table::new(&[terminal::Side::Left; 3]).indent(2);
    table.row(["genesis.json", "", "the same for every validator"]);
    let funded = match plan.authors {
        0 => "a funded client".to_string(),
        authors => format!("a funded client; {} authors are funded too", thousands(authors.into())),
    };
    table.row(["client.key".to_string(), String::new(), funded]);
    for (index, member) in network.validators.iter().enumerate() {
        let url = format!("http://{}", member.http);
        table.row([format!("validator-{index}/"), member.key.to_string(), url]);
    }
    say(&format!(
        "network {} in {folder}: {} validators, of which {} may fail\n{}\n\
         next, for each validator (move its folder and genesis.json to its machine, and correct\n\
         the addresses in every config.toml, if they do not share this one):\n\
         \x20 validator start --config {folder}/validator-0/config.toml\n\
         then:\n\
         \x20 validator submit --file README.md --data {folder}\n",
        network.network,
        network.validators.len(),
        (network.validators.len() - 1) / 3,
        table.render(),
    ));
    Ok(())
}

/// Makes one validator's folder; its key is encrypted where there is a source for a passphrase.
fn init_one(folder: &Path, genesis: Option<&Path>, source: Option<&Source>) -> Result<(), Exit> {
    // Judged before anything is written.
    let genesis = genesis.map(load_genesis).transpose()?;
    let config = folder.join("config.toml");
    if config.exists() {
        return Err(Exit::config(format!(
            "{} exists: it is never replaced, choose another folder",
            config.display()
        )));
    }
    let file = folder.join("validator.key");
    let passphrase = source.map(|source| source.choose(&file)).transpose()?;
    make_folder(folder)?;
    let secret = Secret::generate()?;
    let public = secret.public();
    let key = match &passphrase {
        Some(passphrase) => KeyFile::seal(&secret, passphrase, Cost::DEFAULT)?,
        None => KeyFile::Plain(secret),
    };
    key.create(&file)?;
    Guard::create(&file, &guard::State::default())?;
    write_new(&config, &schema::default_text())?;
    let mut steps = Vec::new();
    match genesis {
        Some(genesis) => write_new(&folder.join("genesis.json"), &genesis.to_json())?,
        None => {
            steps.push("give the public key to whoever writes the genesis file".to_string());
            steps.push(format!("put that file at {}/genesis.json", folder.display()));
        }
    }
    let config = config.display();
    steps.push(format!("add a [[peers]] entry for each validator to {config}"));
    if source.is_some() {
        steps.push(format!(
            "say in {config} where the passphrase is read (key_passphrase); without it the terminal is asked"
        ));
    }
    steps.push(format!("validator config check {config}"));
    steps.push(format!("validator start --config {config}"));
    let mut text = format!("public key {public}\nnext:\n");
    for (index, step) in steps.iter().enumerate() {
        text.push_str(&format!("  {}. {step}\n", index + 1));
    }
    say(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::key::testing;

    #[test]
    fn one_validator_gets_a_key_and_a_config_and_keeps_them() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        init_one(&folder, None, None).unwrap();
        let key = Secret::load(&folder.join("validator.key")).unwrap().public();
        let loaded = Config::load_with(&folder.join("config.toml"), &|_| None, &[]).unwrap();
        assert_eq!(loaded.config, Config::default_in(&folder));
        let exit = init_one(&folder, None, None).unwrap_err();
        assert!(exit.message().contains("never replaced"), "{exit}");
        assert_eq!(Secret::load(&folder.join("validator.key")).unwrap().public(), key);
    }

    #[test]
    fn a_key_is_encrypted_where_that_is_asked_for() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        let exit = init_one(&folder, None, Some(&testing::given("").1)).unwrap_err();
        assert!(exit.message().ends_with("is empty") && !folder.exists(), "{exit}");
        let (_file, source) = testing::given("open\n");
        init_one(&folder, None, Some(&source)).unwrap();
        let file = folder.join("validator.key");
        let key = KeyFile::read(&file).unwrap();
        assert!(matches!(&key, KeyFile::Sealed(sealed) if sealed.cost() == Cost::DEFAULT));
        let (_file, source) = testing::given("open");
        key.open(&file, &source).unwrap();
    }

    #[test]
    fn a_wrong_genesis_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let wrong = parent.path().join("genesis.json");
        std::fs::write(&wrong, "[]").unwrap();
        let folder = parent.path().join("new");
        assert!(init_one(&folder, Some(&wrong), None).is_err());
        assert!(!folder.exists());
    }
}
