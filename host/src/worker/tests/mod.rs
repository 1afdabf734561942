//! A whole worker over the in-process broker and a store that can be told how to behave.

mod endings;
mod hooks;
mod results;
mod rig;
mod shutdown;
mod store_trouble;
