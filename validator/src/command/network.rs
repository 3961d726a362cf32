//! A network's folder: keys, genesis and configurations of all validators, and how to find them.

use super::Exit;
use crate::client::load::{Target, UdpTarget};
use crate::client::{Url, author};
use crate::config::{Listen, schema};
use crate::key::Secret;
use crate::signer::guard::{self, Guard};
use ledger::{
    Digest, Genesis, GenesisAccount, Parameters, PublicKey,
    limits::{EPOCH_LENGTH_MAX, EPOCH_LENGTH_MIN},
};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What every author and the client start with: two billion records of 512 bytes.
pub const FUNDS: u64 = 1_000_000_000_000;
/// The description of a network in its folder.
pub const DESCRIPTION: &str = "network.json";
/// The key of the funded client in a network's folder.
pub const CLIENT_KEY: &str = "client.key";
/// Sockets of one validator: consensus, lanes, UDP, TCP, HTTP, history.
pub const PORTS: u16 = 6;
/// The layout of the description.
const VERSION: u32 = 1;
/// Bytes of a description at most.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Where the validators listen, one for each.
    pub listen: Vec<Listen>,
    /// Funded authors for the load.
    pub authors: u32,
    /// From which their keys come.
    pub seed: u64,
    /// Heights of an epoch; as many as by default without it.
    pub epoch_length: Option<u64>,
    /// Values that differ from the defaults in every validator's config, by dotted name, as they
    /// stand in the file.
    pub settings: Vec<(&'static str, String)>,
}

/// A network in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The layout of this description.
    version: u32,
    /// Its name.
    pub name: String,
    /// The genesis digest.
    #[serde(with = "crate::handle::text")]
    pub network: Digest,
    /// From which the authors' keys come.
    pub seed: u64,
    /// Funded authors.
    pub authors: u32,
    /// The validators in the order of their set.
    pub validators: Vec<Member>,
    /// The folder; not part of the description, so that it can be moved.
    #[serde(skip)]
    folder: PathBuf,
}

/// A validator of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its key.
    #[serde(with = "crate::handle::text")]
    pub key: PublicKey,
    /// Its HTTP address.
    pub http: SocketAddr,
    /// Its TCP address for transactions.
    pub tcp: SocketAddr,
    /// Its UDP address for transactions.
    pub udp: SocketAddr,
}

impl Member {
    /// Returns it as a target of a load.
    pub fn target(&self) -> Target {
        let udp = UdpTarget { address: self.udp, http: self.http.into(), key: self.key };
        Target { tcp: self.tcp, udp: Some(udp) }
    }
}

/// Reads how many heights an epoch has.
pub fn epoch_length() -> impl clap::builder::TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(EPOCH_LENGTH_MIN..=EPOCH_LENGTH_MAX)
}

/// Lays validators' ports out one after the other.
///
/// Errors: usage, when there are not enough ports above `base`.
pub fn consecutive(host: IpAddr, base: u16, validators: u16) -> Result<Vec<Listen>, Exit> {
    let last = u32::from(base) + u32::from(PORTS) * u32::from(validators) - 1;
    if base == 0 || last > u32::from(u16::MAX) {
        return Err(Exit::usage(format!(
            "{validators} validators need {PORTS} ports each: base port {base} leaves too few"
        )));
    }
    Ok((0..validators).map(|index| listen_from(host, base + PORTS * index)).collect())
}

/// Places one validator's sockets on six ports.
pub fn listen_from(host: IpAddr, base: u16) -> Listen {
    let at = |offset| SocketAddr::new(host, base + offset);
    let (consensus, lanes, udp, tcp) = (at(0), at(1), at(2), at(3));
    Listen { consensus, lanes, udp, tcp, http: at(4), history: at(5) }
}

impl Network {
    /// Makes a network in a folder: `genesis.json`, `client.key`, `network.json` and for each
    /// validator a folder with key and config.
    ///
    /// Errors: config, when the folder already holds one or cannot be written.
    pub fn create(folder: &Path, plan: &Plan) -> Result<Self, Exit> {
        make_folder(folder)?;
        if let Some(first) = [DESCRIPTION, CLIENT_KEY, "genesis.json"]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|file| file.exists())
        {
            return Err(Exit::config(format!(
                "{} exists: a network is never replaced, choose another folder",
                first.display()
            )));
        }
        let mut secrets = Vec::new();
        for _ in &plan.listen {
            secrets.push(Secret::generate()?);
        }
        // The set is sorted, so that validator N of the folder is validator N of the network.
        secrets.sort_by_key(Secret::public);
        let client = Secret::generate()?;
        let keys: Vec<PublicKey> = secrets.iter().map(Secret::public).collect();
        let genesis = genesis(plan, keys.clone(), client.public())?;
        write_new(&folder.join("genesis.json"), &genesis.to_json())?;
        client.create(&folder.join(CLIENT_KEY))?;
        let mut network = Self {
            version: VERSION,
            name: plan.name.clone(),
            network: genesis.digest(),
            seed: plan.seed,
            authors: plan.authors,
            validators: Vec::new(),
            folder: folder.to_path_buf(),
        };
        for (index, (secret, listen)) in secrets.iter().zip(&plan.listen).enumerate() {
            let key = secret.public();
            let Listen { http, tcp, udp, .. } = *listen;
            network.validators.push(Member { key, http, tcp, udp });
            make_folder(&network.member_folder(index))?;
            let file = network.member_folder(index).join("validator.key");
            secret.create(&file)?;
            Guard::create(&file, &guard::State::default())?;
            write_new(&network.config(index), &config_text(plan, &keys, index))?;
        }
        let mut text = serde_json::to_string_pretty(&network).expect("it has a JSON form");
        text.push('\n');
        write_new(&folder.join(DESCRIPTION), &text)?;
        Ok(network)
    }

    /// Finds the network of a folder.
    ///
    /// Errors: config, when the folder holds none.
    pub fn open(folder: &Path) -> Result<Self, Exit> {
        let file = folder.join(DESCRIPTION);
        let refuse = |why: String| Exit::config(format!("{}: {why}", file.display()));
        let text = crate::config::read_text(&file, DESCRIPTION_BYTES_MAX).map_err(refuse)?;
        let network: Self =
            serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        if network.version != VERSION {
            return Err(refuse(format!("has version {}, not {VERSION}", network.version)));
        }
        Ok(Self { folder: folder.to_path_buf(), ..network })
    }

    /// Looks for the network of this machine's user that a validator's address belongs to, among
    /// those that `testnet` made.
    pub fn search(url: &Url) -> Option<Self> {
        let user = rustix::process::geteuid().as_raw();
        let entries = std::fs::read_dir(std::env::temp_dir()).ok()?;
        entries
            .filter_map(Result::ok)
            .filter(|entry| {
                let is_ours = entry.metadata().is_ok_and(|facts| facts.uid() == user);
                is_ours && entry.file_name().to_string_lossy().starts_with(super::testnet::PREFIX)
            })
            .filter_map(|entry| Self::open(&entry.path()).ok())
            .find(|network| network.validators.iter().any(|member| Url::from(member.http) == *url))
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the folder of a validator.
    pub fn member_folder(&self, index: usize) -> PathBuf {
        self.folder.join(format!("validator-{index}"))
    }

    /// Returns the config file of a validator.
    pub fn config(&self, index: usize) -> PathBuf {
        self.member_folder(index).join("config.toml")
    }

    /// Returns the data folder of a validator.
    pub fn data(&self, index: usize) -> PathBuf {
        self.member_folder(index).join("data")
    }

    /// Returns the log file of a validator.
    pub fn log(&self, index: usize) -> PathBuf {
        self.member_folder(index).join("log")
    }

    /// Returns the genesis file.
    pub fn genesis(&self) -> PathBuf {
        self.folder.join("genesis.json")
    }

    /// Returns the key file of the funded client.
    pub fn client_key(&self) -> PathBuf {
        self.folder.join(CLIENT_KEY)
    }
}

fn genesis(plan: &Plan, keys: Vec<PublicKey>, client: PublicKey) -> Result<Genesis, Exit> {
    let authors = (0..plan.authors).map(|index| author::secret(plan.seed, index).public());
    // Validators vote by transactions, which their accounts pay for.
    let funded = authors.chain([client]).chain(keys.iter().copied());
    let mut accounts: Vec<GenesisAccount> =
        funded.map(|key| GenesisAccount { key, balance: FUNDS }).collect();
    accounts.sort_by_key(|account| account.key);
    let mut parameters = Parameters::default();
    if let Some(length) = plan.epoch_length {
        parameters.epoch_length = length;
    }
    let name = plan.name.clone();
    Genesis::new(name, keys, accounts, parameters, sigverify::key_is_sound)
        .map_err(|error| Exit::config(error.to_string()))
}

fn config_text(plan: &Plan, keys: &[PublicKey], index: usize) -> String {
    let Listen { consensus, lanes, udp, tcp, http, history } = &plan.listen[index];
    let mut text = format!(
        "# Validator {index} of the network {:?}. `validator config default` explains every key.\n\
         genesis = \"../genesis.json\"\nkey = \"validator.key\"\ndata = \"data\"\n\n\
         [listen]\nconsensus = \"{consensus}\"\nlanes = \"{lanes}\"\nudp = \"{udp}\"\n\
         tcp = \"{tcp}\"\nhttp = \"{http}\"\nhistory = \"{history}\"\n",
        plan.name
    );
    // In the order of the schema, since a table may appear only once.
    let mut table = "listen";
    for key in &schema::KEYS {
        for (_, value) in plan.settings.iter().filter(|(dotted, _)| *dotted == key.dotted) {
            let (this_table, name) = key.split();
            if this_table != table {
                table = this_table;
                text.push_str(&format!("\n[{table}]\n"));
            }
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    for (key, listen) in keys.iter().zip(&plan.listen) {
        let Listen { consensus, lanes, history, .. } = listen;
        text.push_str(&format!(
            "\n[[peers]]\nkey = \"{key}\"\nconsensus = \"{consensus}\"\nlanes = \"{lanes}\"\n\
             history = \"{history}\"\n"
        ));
    }
    text
}

/// Makes a folder that only its owner enters.
///
/// Errors: config, when it cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), Exit> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Exit::config(format!("folder {}: {error}", folder.display())))
}

/// Writes a file that must not exist yet.
///
/// Errors: config, when it exists or cannot be written.
pub fn write_new(file: &Path, text: &str) -> Result<(), Exit> {
    let write = || {
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
        opened.write_all(text.as_bytes())?;
        opened.sync_all()
    };
    write().map_err(|error: std::io::Error| Exit::config(format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::net::Ipv4Addr;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn plan(validators: u16) -> Plan {
        Plan {
            name: "here".into(),
            listen: consecutive(HOST, 4_000, validators).unwrap(),
            authors: 3,
            seed: 9,
            epoch_length: None,
            settings: vec![
                ("log.filter", "\"warn\"".into()),
                ("storage.segment_bytes", "67108864".into()),
            ],
        }
    }

    #[test]
    fn every_config_of_a_network_is_good_and_names_all_validators() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::create(folder.path(), &plan(4)).unwrap();
        for index in 0..4 {
            let loaded = Config::load_with(&network.config(index), &|_| None, &[]).unwrap();
            let identity = loaded.config.identity().unwrap();
            assert_eq!(identity.index.map(|place| place as usize), Some(index));
            assert_eq!(identity.secret.public(), network.validators[index].key);
            assert_eq!(identity.genesis.digest(), network.network);
            assert_eq!(loaded.config.peers.len(), 4);
            assert_eq!(loaded.config.log.filter, "warn");
            assert_eq!(loaded.config.storage.segment_bytes, 64 << 20);
            assert_eq!(loaded.config.listen.http, network.validators[index].http);
        }
        let genesis = crate::config::identity::load_genesis(&folder.path().join("genesis.json"));
        let genesis = genesis.unwrap();
        // Validators pay for their votes.
        assert_eq!(genesis.accounts().len(), 4 + 4);
        let client = Secret::load(&network.client_key()).unwrap().public();
        for key in [client, author::secret(9, 2).public()] {
            let account = genesis.accounts().iter().find(|account| account.key == key);
            assert_eq!(account.unwrap().balance, FUNDS);
        }
    }

    #[test]
    fn a_network_is_found_again_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::create(folder.path(), &plan(1)).unwrap();
        assert_eq!(Network::open(folder.path()).unwrap(), network);
        let exit = Network::create(folder.path(), &plan(1)).unwrap_err();
        assert!(exit.message().contains("never replaced"), "{exit}");
        let exit = Network::open(&folder.path().join("validator-0")).unwrap_err();
        assert!(exit.message().contains("network.json: cannot be opened"), "{exit}");
    }

    #[test]
    fn a_description_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Network::create(folder.path(), &plan(1)).unwrap();
        let file = folder.path().join(DESCRIPTION);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        let exit = Network::open(folder.path()).unwrap_err();
        assert!(exit.message().contains("has version 2, not 1"), "{exit}");
    }

    #[test]
    fn ports_follow_one_base_and_never_overflow() {
        let listen = consecutive(HOST, 7_000, 2).unwrap();
        assert_eq!(listen[1].consensus.port(), 7_006);
        assert_eq!(listen[1].history.port(), 7_011);
        assert!(consecutive(HOST, 65_524, 2).is_ok());
        assert!(consecutive(HOST, 65_525, 2).is_err());
        assert!(consecutive(HOST, 0, 2).is_err());
    }
}
