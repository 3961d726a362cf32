//! The command line: what can be asked for, and how a command ends.

pub mod config;
pub mod council;
pub mod described;
pub mod evidence;
pub mod exit;
pub mod init;
pub mod key;
pub mod ledger;
pub mod load;
pub mod network;
pub mod pipeline;
pub mod prove;
pub mod start;
pub mod status;
pub mod submit;
pub mod terminal;
pub mod testnet;
pub mod verify_proof;
pub mod xdp;

pub use exit::{Code, Exit};

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// A validator of a ledger that nobody owns and nobody can rewrite.
///
/// Exit codes: 0 done, 1 a check did not hold, 2 usage, 3 configuration, 4 unfit machine,
/// 5 damaged data, 6 unsafe to sign, 7 network.
#[derive(Debug, Parser)]
#[command(name = "validator", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make keys, a genesis and configurations
    Init(init::Arguments),
    /// Look at a key file, encrypt it, or change its passphrase
    Key(key::Arguments),
    /// Run a validator
    Start(start::Arguments),
    /// Run a whole network on this machine, under load, and check that it agrees
    Testnet(testnet::Arguments),
    /// Run one validator without peers and sockets as fast as this machine goes, and say what costs what
    Pipeline(pipeline::Arguments),
    /// Offer signed transactions at a constant rate and measure what becomes of them
    Load(load::Arguments),
    /// Hand in a record or a transfer and wait until it is final
    Submit(submit::Arguments),
    /// Fetch a proof of a transaction or an account, for people who trust no validator
    Prove(prove::Arguments),
    /// Check a proof, offline, with nothing but the genesis file
    VerifyProof(verify_proof::Arguments),
    /// List what validators are proved to have done, or check a file of it
    Evidence(evidence::Arguments),
    /// Show who decides, and vote to change that
    Council(council::Arguments),
    /// Show what validators say about themselves
    Status(status::Arguments),
    /// Look at the filter of packets
    Xdp(xdp::Arguments),
    /// Show the default configuration, or check a file
    Config(config::Arguments),
    /// Read and check a stored ledger, offline
    Ledger(ledger::Arguments),
}

/// Runs a command line, the program's name first, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; where they cannot be printed nobody reads them.
            let _ = error.print();
            return if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match &cli.command {
        Command::Init(arguments) => init::run(arguments),
        Command::Key(arguments) => key::run(arguments),
        Command::Start(arguments) => start::run(arguments),
        Command::Testnet(arguments) => testnet::run(arguments),
        Command::Pipeline(arguments) => pipeline::run(arguments),
        Command::Load(arguments) => load::run(arguments),
        Command::Submit(arguments) => submit::run(arguments),
        Command::Prove(arguments) => prove::run(arguments),
        Command::VerifyProof(arguments) => verify_proof::run(arguments),
        Command::Evidence(arguments) => evidence::run(arguments),
        Command::Council(arguments) => council::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Xdp(arguments) => xdp::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Ledger(arguments) => ledger::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            terminal::complain(&format!("validator: {exit}"));
            exit.code().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn end(arguments: &[&str]) -> ExitCode {
        let program = std::iter::once("validator");
        run(program.chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        for command in Cli::command().get_subcommands_mut() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            assert!(command.render_long_help().to_string().contains("Usage"));
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{argument} of {}", command.get_name());
            }
        }
    }

    #[test]
    fn usage_errors_and_help_end_as_scripts_expect() {
        assert_eq!(format!("{:?}", end(&["--help"])), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", end(&["nonsense"])), format!("{:?}", ExitCode::from(2)));
        let absent = ["config", "check", "/nowhere.toml"];
        assert_eq!(format!("{:?}", end(&absent)), format!("{:?}", ExitCode::from(3)));
    }
}
