//! The validator's HTTP interface as functions: the same documents that the server writes.

use super::http::{self, Http, Response, Url};
use crate::admission::Admission;
use crate::api::Problem;
use crate::api::document::{self, Account, FINAL, Readiness, Submitted, Transaction};
use crate::handle::Status;
use crate::refusal::Refusal;
use ledger::{Digest, PublicKey};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No response arrived.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The validator refused; the document says why.
    #[error("{url}: {}", describe(problem))]
    Problem {
        /// Which validator.
        url: Url,
        /// Its reason.
        problem: Box<Problem>,
    },
    /// The response is not the document that was asked for.
    #[error("{url}: status {status}, and not the document that was asked for")]
    Unexpected {
        /// Which validator.
        url: Url,
        /// The status of the response.
        status: u16,
    },
}

fn describe(problem: &Problem) -> String {
    use crate::command::terminal::printable;
    format!("{} ({})", printable(&problem.detail), printable(&problem.code))
}

impl Error {
    /// Returns the reason of a refused transaction.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Problem { problem, .. } => Refusal::from_name(&problem.code),
            Self::Http(_) | Self::Unexpected { .. } => None,
        }
    }
}

/// A client of one validator's HTTP interface.
#[derive(Debug)]
pub struct Api {
    http: Http,
}

impl Api {
    /// Prepares a client; every call ends within `timeout`.
    pub const fn new(url: Url, timeout: Duration) -> Self {
        Self { http: Http::new(url, timeout) }
    }

    /// Returns the address.
    pub const fn url(&self) -> &Url {
        self.http.url()
    }

    /// Asks for the state of the validator.
    ///
    /// Errors: every [`Error`].
    pub fn status(&mut self) -> Result<Status, Error> {
        let response = self.http.get("/status")?;
        self.document(&response, &[200])
    }

    /// Asks for all metrics, as text.
    ///
    /// Errors: every [`Error`].
    pub fn metrics(&mut self) -> Result<String, Error> {
        let response = self.http.get("/metrics")?;
        if response.status == 200 {
            return Ok(String::from_utf8_lossy(&response.body).into_owned());
        }
        Err(self.failure(&response))
    }

    /// Asks whether the validator keeps up and takes part, and if not why.
    ///
    /// Errors: every [`Error`].
    pub fn readiness(&mut self) -> Result<Readiness, Error> {
        let response = self.http.get("/readyz")?;
        self.document(&response, &[200, 503])
    }

    /// Asks for the key towards which sessions are opened; the caller verifies the document.
    ///
    /// Errors: every [`Error`].
    pub fn admission(&mut self) -> Result<Admission, Error> {
        let response = self.http.get("/admission")?;
        self.document(&response, &[200])
    }

    /// Asks who decides.
    ///
    /// Errors: every [`Error`].
    pub fn council(&mut self) -> Result<document::council::Council, Error> {
        let response = self.http.get("/council")?;
        self.document(&response, &[200])
    }

    /// Asks for an account; none when there is none.
    ///
    /// Errors: every [`Error`].
    pub fn account(&mut self, key: &PublicKey) -> Result<Option<Account>, Error> {
        let response = self.http.get(&format!("/account/{key}"))?;
        if response.status == 404 {
            return Ok(None);
        }
        self.document(&response, &[200]).map(Some)
    }

    /// Hands in a transaction and waits a while until it is final; the answer says whether it is.
    ///
    /// Errors: every [`Error`].
    pub fn submit(&mut self, transaction: &[u8]) -> Result<Submitted, Error> {
        let response = self.http.post("/transaction?wait=final", transaction)?;
        self.document(&response, &[200, 202])
    }

    /// Asks where a transaction was executed.
    ///
    /// Errors: every [`Error`].
    pub fn transaction(&mut self, id: &Digest) -> Result<Option<Transaction>, Error> {
        let response = self.http.get(&format!("/transaction/{id}"))?;
        if response.status == 404 {
            return Ok(None);
        }
        let found: Transaction = self.document(&response, &[200])?;
        Ok(Some(found).filter(|found| found.status == FINAL))
    }

    /// Asks what validators are proved to have done.
    ///
    /// Errors: every [`Error`].
    pub fn evidence(&mut self) -> Result<Vec<document::Evidence>, Error> {
        let response = self.http.get("/evidence")?;
        self.document(&response, &[200])
    }

    /// Asks for the bytes of a proof; the caller checks them.
    ///
    /// Errors: every [`Error`].
    pub fn proof(&mut self, path: &str) -> Result<Vec<u8>, Error> {
        let response = self.http.get(path)?;
        if response.status == 200 {
            return Ok(response.body);
        }
        Err(self.failure(&response))
    }

    fn document<T: DeserializeOwned>(&self, response: &Response, good: &[u16]) -> Result<T, Error> {
        if !good.contains(&response.status) {
            return Err(self.failure(response));
        }
        let (url, status) = (self.http.url().clone(), response.status);
        serde_json::from_slice(&response.body).map_err(|_| Error::Unexpected { url, status })
    }

    /// What an answer is that was not asked for.
    fn failure(&self, Response { status, body }: &Response) -> Error {
        let url = self.http.url().clone();
        match serde_json::from_slice(body) {
            Ok(problem) => Error::Problem { url, problem: Box::new(problem) },
            Err(_) => Error::Unexpected { url, status: *status },
        }
    }
}
