//! A whole worker over the in-process broker and a store that can be told how to behave.

mod announcements;
mod endings;
mod health;
mod hooks;
mod isolation;
mod results;
mod rig;
mod shutdown;
mod store_trouble;
