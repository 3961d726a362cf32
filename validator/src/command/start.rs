//! `start`: runs a validator until it is told to stop.

use super::Exit;
use crate::config::{Config, Log, LogFormat};
use crate::node;
use std::io::IsTerminal;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// The arguments of `start`.
///
/// Each flag that has a key in the config file has the same environment variable as the key.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The config file
    #[arg(long, value_name = "FILE", env = "ALTHING_CONFIG")]
    config: PathBuf,
    /// Read the passphrase of an encrypted key from this open file descriptor
    #[arg(long, value_name = "N", value_parser = super::key::descriptor())]
    passphrase_fd: Option<i32>,
    /// Let the kernel filter packets of this interface early
    #[arg(long, value_name = "IFACE", env = "ALTHING_NET_XDP")]
    xdp: Option<String>,
    /// Where that filter runs: auto, driver, generic or off
    #[arg(long, value_name = "MODE", env = "ALTHING_NET_XDP_MODE")]
    xdp_mode: Option<String>,
    /// What it does: enforce, or observe to count and drop nothing
    #[arg(long, value_name = "POLICY", env = "ALTHING_NET_XDP_POLICY")]
    xdp_policy: Option<String>,
    /// How signatures are checked: auto, or a backend by name
    #[arg(long, value_name = "BACKEND", env = "ALTHING_SIGVERIFY_BACKEND")]
    sigverify: Option<String>,
    /// How the disk is written: auto, io_uring or portable
    #[arg(long, value_name = "BACKEND", env = "ALTHING_STORAGE_BACKEND")]
    storage: Option<String>,
    /// Form of log lines: auto, human or json
    #[arg(long, value_name = "FORM", env = "ALTHING_LOG_FORMAT")]
    log_format: Option<String>,
    /// What is logged, such as info or validator=debug,warn
    #[arg(long, value_name = "FILTER", env = "ALTHING_LOG_FILTER")]
    log_filter: Option<String>,
    /// Stop when the process with this id, which started this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    exit_with_parent: Option<i32>,
}

impl Arguments {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let passphrase = self.passphrase_fd.map(|number| format!("fd:{number}"));
        [
            ("key_passphrase", &passphrase),
            ("net.xdp", &self.xdp),
            ("net.xdp_mode", &self.xdp_mode),
            ("net.xdp_policy", &self.xdp_policy),
            ("sigverify.backend", &self.sigverify),
            ("storage.backend", &self.storage),
            ("log.format", &self.log_format),
            ("log.filter", &self.log_filter),
        ]
        .into_iter()
        .filter_map(|(dotted, value)| Some((dotted, value.clone()?)))
        .collect()
    }
}

/// Runs the command.
///
/// Errors: config, and whatever keeps the validator from starting or running.
pub fn run(arguments: &Arguments) -> Result<(), Exit> {
    if let Some(parent) = arguments.exit_with_parent {
        follow(parent)?;
    }
    let config = Config::load(&arguments.config, &arguments.flags())?.config;
    start_log(&config.log)?;
    node::start(&config)
}

/// Has the kernel stop this process when its parent ends, however it ends.
fn follow(parent: i32) -> Result<(), Exit> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Exit::host_unfit(format!("cannot follow the parent process: {error}")))?;
    // It may have ended before the line above.
    if getppid().is_none_or(|now| now.as_raw_nonzero().get() != parent) {
        return Err(Exit::host_unfit("the process that started this one has ended"));
    }
    Ok(())
}

fn start_log(log: &Log) -> Result<(), Exit> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| Exit::config(format!("log.filter {:?}: {error}", log.filter)))?;
    let is_terminal = std::io::stderr().is_terminal();
    let is_human = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if is_human {
        lines.with_ansi(is_terminal && super::terminal::colour_wanted()).try_init()
    } else {
        lines.json().flatten_event(true).with_ansi(false).try_init()
    };
    started.map_err(|error| Exit::host_unfit(format!("cannot start the log: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn flags_become_values_of_their_keys() {
        let line = ["start", "--config", "c", "--xdp", "eth0", "--storage", "portable"];
        let line = [&line[..], &["--passphrase-fd", "3"]].concat();
        let arguments = Line::parse_from(line).arguments;
        let flags = arguments.flags();
        assert!(flags.contains(&("key_passphrase", "fd:3".to_string())));
        assert!(flags.contains(&("net.xdp", "eth0".to_string())));
        assert!(flags.contains(&("storage.backend", "portable".to_string())));
    }

    #[test]
    fn every_flag_shares_its_variable_with_its_key() {
        use clap::CommandFactory;
        let command = Line::command();
        for (flag, dotted) in [
            ("xdp", "net.xdp"),
            ("xdp_mode", "net.xdp_mode"),
            ("xdp_policy", "net.xdp_policy"),
            ("sigverify", "sigverify.backend"),
            ("storage", "storage.backend"),
            ("log_format", "log.format"),
            ("log_filter", "log.filter"),
        ] {
            let argument = command.get_arguments().find(|argument| argument.get_id() == flag);
            let variable = argument.unwrap().get_env().unwrap().to_str().unwrap().to_string();
            assert_eq!(variable, crate::config::schema::find(dotted).unwrap().variable());
        }
    }

    #[test]
    fn a_parent_that_is_not_the_parent_stops_the_start() {
        let exit = follow(1 + i32::MAX / 2).unwrap_err();
        assert!(exit.message().contains("has ended"), "{exit}");
        rustix::process::set_parent_process_death_signal(None).unwrap();
    }

    #[test]
    fn a_wrong_filter_is_one_line() {
        let log = Log { format: LogFormat::Human, filter: "a=b=c".into() };
        let exit = start_log(&log).unwrap_err();
        assert!(exit.message().starts_with("log.filter \"a=b=c\""), "{exit}");
    }
}
