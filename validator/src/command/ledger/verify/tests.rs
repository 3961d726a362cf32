//! Checks of the audit of a store.
