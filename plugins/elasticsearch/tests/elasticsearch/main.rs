//! The Elasticsearch store's own requests, against a stub that records them and answers as the
//! vendors' documentation says a server does. A test here proves what this store sends and how it
//! takes an answer; it proves nothing of Elasticsearch or OpenSearch. The workspace's tests run
//! the conformance suite against an emulator, or a cluster that is named to them.
//!
//! Where the answers come from: the reference of the document APIs (`_bulk`, `_mget`, optimistic
//! concurrency control), the search APIs (`_search`, `search_after`, `_refresh`) and the index
//! APIs of Elasticsearch 8 and OpenSearch 2, which agree in all that is used here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod answers;
mod faults;
mod foreign;
mod index;
mod listing;
mod login;
mod stub;
mod support;
mod writing;
