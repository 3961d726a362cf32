//! Who this validator is and to which network it belongs: key, genesis and data folder, compared.

use super::{Config, read_text};
use crate::command::Exit;
use crate::key::{KeyFile, Secret};
use ledger::{Digest, Genesis};
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Bytes of a genesis file at most: four million accounts of some 120 bytes.
const GENESIS_FILE_BYTES_MAX: u64 = 512 << 20;
/// The copy of the genesis file in a data folder.
pub const GENESIS_COPY: &str = "genesis.json";

/// A validator's place in its network.
#[derive(Debug)]
pub struct Identity {
    /// The network.
    pub genesis: Genesis,
    /// The key.
    pub secret: Secret,
    /// The place of the key in the first validator set; none of one that was voted in, or is to be.
    pub index: Option<u32>,
}

/// Reads and checks a genesis file, its validator keys included.
///
/// Errors: config, with the file and what is wrong in it.
pub fn load_genesis(file: &Path) -> Result<Genesis, Exit> {
    let refuse = |why: String| Exit::config(format!("genesis {}: {why}", file.display()));
    let text = read_text(file, GENESIS_FILE_BYTES_MAX).map_err(refuse)?;
    Genesis::from_json(&text, sigverify::key_is_sound).map_err(|error| {
        let why = error.to_string();
        refuse(why.strip_prefix("genesis: ").unwrap_or(&why).to_string())
    })
}

impl Config {
    /// Loads genesis and key and checks that they, and the peers, belong together.
    ///
    /// The passphrase of an encrypted key is read last, and once: a descriptor gives it only once, nobody is asked
    /// for it in vain, and it is read by the process that runs if this one starts itself again before.
    ///
    /// Errors: config, with what does not fit and what to do.
    pub fn identity(&self) -> Result<Identity, Exit> {
        let genesis = load_genesis(&self.genesis)?;
        let file = KeyFile::read(&self.key)?;
        let set = genesis.set();
        let public = file.public();
        let index = set.index_of(&public);
        // Who was voted in, or is to be, has peers that the genesis names.
        let is_foreign = |peer: &super::Peer| set.index_of(&peer.key).is_none();
        if index.is_none() && self.peers.iter().all(is_foreign) {
            return Err(Exit::config(format!(
                "key {}: its public key {public} is not a validator of genesis {}, nor is anybody in [[peers]]",
                self.key.display(),
                self.genesis.display()
            )));
        }
        for peer in &self.peers {
            // Others may have been voted in since the genesis; their keys are still keys.
            if !sigverify::key_is_sound(peer.key.as_bytes()) {
                return Err(Exit::config(format!(
                    "[[peers]] names {}, which is no validator's key",
                    peer.key
                )));
            }
        }
        for validator in set.keys() {
            let is_known = self.peers.iter().any(|peer| peer.key == *validator);
            if !is_known && *validator != public {
                return Err(Exit::config(format!(
                    "validator {validator} has no [[peers]] entry: add its key and addresses"
                )));
            }
        }
        let secret = file.open(&self.key, &self.key_passphrase)?;
        Ok(Identity { genesis, secret, index })
    }

    /// Makes the data folder if there is none and ties it to `genesis` by a copy of it.
    ///
    /// Errors: config, when it belongs to another network; host unfit, when it cannot be written.
    pub fn adopt_data_folder(&self, genesis: &Genesis) -> Result<(), Exit> {
        let unfit = |error: std::io::Error| {
            Exit::host_unfit(format!("data folder {}: {error}", self.data.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.data).map_err(unfit)?;
        if let Some(network) = network_of(&self.data)? {
            if network == genesis.digest() {
                return Ok(());
            }
            return Err(Exit::config(format!(
                "data folder {} belongs to network {network}, genesis {} is of network {}: \
                 use another data folder or the right genesis file",
                self.data.display(),
                self.genesis.display(),
                genesis.digest()
            )));
        }
        // Under another name first: a copy that exists is whole.
        let unfinished = self.data.join("genesis.json.new");
        let mut file = File::create(&unfinished).map_err(unfit)?;
        file.write_all(genesis.to_json().as_bytes()).map_err(unfit)?;
        file.sync_all().map_err(unfit)?;
        std::fs::rename(&unfinished, self.data.join(GENESIS_COPY)).map_err(unfit)?;
        File::open(&self.data).and_then(|folder| folder.sync_all()).map_err(unfit)
    }
}

/// Returns the network to which a data folder belongs, if it was used before.
///
/// Errors: config, when its copy of the genesis file cannot be read.
pub fn network_of(data: &Path) -> Result<Option<Digest>, Exit> {
    let copy = data.join(GENESIS_COPY);
    if !copy.exists() {
        return Ok(None);
    }
    load_genesis(&copy).map(|genesis| Some(genesis.digest()))
}
