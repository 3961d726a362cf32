//! How a command ends when it cannot do what was asked: one line and an exit code.

use std::fmt;

/// Why a command stops, as the exit code that a script sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A check that was asked for did not hold.
    CheckFailed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A configuration, key or genesis file cannot be used.
    Config = 3,
    /// This machine lacks something that cannot be done without.
    HostUnfit = 4,
    /// Stored data is damaged.
    DataCorrupt = 5,
    /// Going on might sign twice.
    UnsafeToSign = 6,
    /// A port is in use or a peer does not answer.
    Network = 7,
}

/// The end of a command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    code: Code,
    message: String,
}

impl Exit {
    /// Ends with `code` and one line that says what is wrong and what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A check that was asked for did not hold.
    pub fn check_failed(message: impl Into<String>) -> Self {
        Self::new(Code::CheckFailed, message)
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A configuration, key or genesis file cannot be used.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Code::Config, message)
    }

    /// This machine lacks something that cannot be done without.
    pub fn host_unfit(message: impl Into<String>) -> Self {
        Self::new(Code::HostUnfit, message)
    }

    /// Stored data is damaged.
    pub fn data_corrupt(message: impl Into<String>) -> Self {
        Self::new(Code::DataCorrupt, message)
    }

    /// Going on might sign twice.
    pub fn unsafe_to_sign(message: impl Into<String>) -> Self {
        Self::new(Code::UnsafeToSign, message)
    }

    /// A port is in use or a peer does not answer.
    pub fn network(message: impl Into<String>) -> Self {
        Self::new(Code::Network, message)
    }

    /// Returns the exit code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Returns the line that says what is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_has_its_own_code() {
        let ends = [
            Exit::check_failed("x"),
            Exit::usage("x"),
            Exit::config("x"),
            Exit::host_unfit("x"),
            Exit::data_corrupt("x"),
            Exit::unsafe_to_sign("x"),
            Exit::network("x"),
        ];
        for (place, end) in ends.iter().enumerate() {
            assert_eq!(usize::from(end.code() as u8), place + 1);
            assert_eq!(end.to_string(), "x");
        }
    }
}
