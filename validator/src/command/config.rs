//! `config`: the default configuration with comments, and a check of a file.

use super::Exit;
use super::terminal::{Paint, Side, Table, say};
use crate::config::{Config, Loaded, schema};
use clap::Subcommand;
use ledger::{Genesis, PublicKey};
use std::path::PathBuf;

/// The arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the default configuration, with a comment on every key
    Default,
    /// Check a config file with its key and genesis, and print what would run
    Check {
        /// The config file
        #[arg(env = "ALTHING_CONFIG")]
        file: PathBuf,
        /// Read the passphrase of an encrypted key from this open file descriptor
        #[arg(long, value_name = "N", value_parser = super::key::descriptor())]
        passphrase_fd: Option<i32>,
    },
}

/// Runs the command.
///
/// Errors: config, with what is wrong.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    match &arguments.command {
        Command::Default => {
            say(&schema::default_text());
            Ok(())
        }
        Command::Check { file, passphrase_fd } => {
            let flag = passphrase_fd.map(|number| ("key_passphrase", format!("fd:{number}")));
            let loaded = Config::load(file, flag.as_slice())?;
            let identity = loaded.config.identity()?;
            let data = crate::config::identity::network_of(&loaded.config.data)?;
            if let Some(other) = data.filter(|network| *network != identity.genesis.digest()) {
                return Err(Exit::config(format!(
                    "data folder {} belongs to network {other}: use another one, or the right \
                     genesis file",
                    loaded.config.data.display()
                )));
            }
            let key = identity.secret.public();
            say(&render(&loaded, &identity.genesis, &key, identity.index, Paint::stdout()));
            Ok(())
        }
    }
}

fn render(
    loaded: &Loaded,
    genesis: &Genesis,
    key: &PublicKey,
    index: Option<u32>,
    paint: Paint,
) -> String {
    let mut values = Table::new(&[Side::Left, Side::Left, Side::Left]);
    for key in &schema::KEYS {
        let entry = loaded.layers.entry(key.dotted);
        let origin = paint.dim(&entry.origin.to_string());
        values.row([key.dotted.to_string(), entry.value.to_string(), origin]);
    }
    let set = genesis.set();
    let mut facts = Table::new(&[Side::Left, Side::Left]);
    facts.row(["network".to_string(), format!("{} ({})", genesis.digest(), genesis.name())]);
    let place = match index {
        Some(index) => format!("{index} of {} ({key})", set.len()),
        None => format!("not of the genesis: it follows until it is voted in ({key})"),
    };
    facts.row(["validator".to_string(), place]);
    let quorum = format!("{} of {}, {} may fail", set.quorum(), set.len(), set.faults_max());
    facts.row(["quorum".to_string(), quorum]);
    let cores = loaded.config.cores.groups();
    let cores = cores.map(|(key, cpus)| format!("{} {cpus}", key.trim_start_matches("cores.")));
    facts.row(["cores".to_string(), cores.join(", ")]);
    facts.row(["data".to_string(), loaded.config.data.display().to_string()]);
    format!("{}\n{}\n{}\n", values.render(), facts.render(), paint.good("this would run"))
}

#[cfg(test)]
mod tests {
    use super::super::network::{Network, Plan, consecutive};
    use super::*;
    use std::path::Path;

    fn check(file: &Path) -> Result<(), Exit> {
        run(&Arguments { command: Command::Check { file: file.into(), passphrase_fd: None } })
    }

    #[test]
    fn a_good_file_is_shown_with_the_origin_of_each_value() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan {
            name: "here".into(),
            listen: consecutive("127.0.0.1".parse().unwrap(), 5_000, 4).unwrap(),
            authors: 0,
            seed: 1,
            epoch_length: None,
            settings: Vec::new(),
        };
        let network = Network::create(folder.path(), &plan).unwrap();
        check(&network.config(2)).unwrap();
        let loaded = Config::load_with(&network.config(2), &|_| None, &[]).unwrap();
        let identity = loaded.config.identity().unwrap();
        let key = identity.secret.public();
        let text = render(&loaded, &identity.genesis, &key, identity.index, Paint::PLAIN);
        for part in [
            "listen.http",
            "\"127.0.0.1:5014\"",
            "line 11",
            "default",
            "3 of 4, 1 may fail",
            "verify any, stages any, storage any, network any",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        // A data folder of another network is found before anything starts.
        let other = tempfile::tempdir().unwrap();
        let other = Network::create(other.path(), &plan).unwrap();
        std::fs::create_dir(network.data(2)).unwrap();
        let from = other.folder().join("genesis.json");
        std::fs::copy(from, network.data(2).join("genesis.json")).unwrap();
        let exit = check(&network.config(2)).unwrap_err();
        assert!(exit.message().contains("belongs to network"), "{exit}");
    }
}
