//! What can be typed after `warren plugins`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PluginsCommand {
    /// List every plugin file: loaded, or why not.
    Ls,
    /// Say what is wrong with a plugin file, if anything; with a configuration, try it out too.
    ///
    /// With --config the [result_store.config] of that file is held against the store's schema,
    /// the store is opened with it, asked for its health, and held against the rules of
    /// docs/result-store.md by the conformance suite; --store-config does the same with JSON.
    /// Exits with 4 when a rule is broken.
    ///
    /// The suite writes to the store, under ids and queues that nobody else has, and deletes what
    /// it wrote. Its calls of cleanup_expired may remove other records that have expired.
    #[command(after_help = "Examples:
  warren plugins check ./libmy_store.so
  warren plugins check ./libmy_store.so --config warren.toml --full
  warren plugins check ./libmy_store.so --store-config '{\"path\": \"/tmp/results\"}' --only scan
  warren plugins check ./libmy_store.so --store-config '{}' --json --bench")]
    Check(CheckCommand),
    /// Write the crate of a new store, which builds, passes the suite and awaits your backend.
    #[command(after_help = "Examples:
  warren plugins new mystore
  warren plugins new mystore --dir ~/src/mystore --api ~/src/warren")]
    New(NewCommand),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckCommand {
    /// The plugin.
    pub(super) file: PathBuf,
    /// The store's configuration as JSON.
    #[arg(long, value_name = "JSON")]
    pub(super) store_config: Option<String>,
    /// Open the store and ask for its health, but write nothing to it.
    #[arg(long, conflicts_with_all = ["full", "only", "alone", "secret", "unreachable", "unresponsive", "wrong_credentials", "no_room"])]
    pub(super) no_suite: bool,
    /// Run the suite at its full size: whole matrices, batches of 10,000.
    #[arg(long)]
    pub(super) full: bool,
    /// Only cases whose id begins with this (`scan`), or that check this rule (RS-050); may be
    /// repeated.
    #[arg(long, value_name = "PREFIX|RULE")]
    pub(super) only: Vec<String>,
    /// Promise that the store holds nothing that matters and nobody else uses it: figures and
    /// whole listings are checked too. A case makes it clean up as if two hours had passed.
    #[arg(long)]
    pub(super) alone: bool,
    /// A word of the configuration that must never be shown, such as a password; may be repeated.
    #[arg(long, value_name = "WORD")]
    pub(super) secret: Vec<String>,
    /// A configuration whose backend is not there, such as a port without a server.
    #[arg(long, value_name = "JSON")]
    pub(super) unreachable: Option<String>,
    /// A configuration whose backend takes connections and answers nothing, such as the port of
    /// `nc -lk`.
    #[arg(long, value_name = "JSON")]
    pub(super) unresponsive: Option<String>,
    /// A configuration with credentials that the backend refuses.
    #[arg(long, value_name = "JSON")]
    pub(super) wrong_credentials: Option<String>,
    /// A configuration whose backend is full: a small disk, a limit of memory.
    #[arg(long, value_name = "JSON")]
    pub(super) no_room: Option<String>,
    /// The longest that one case, or one measured call, may take.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s")]
    pub(super) timeout: Duration,
    /// Measure the store's calls afterwards, each for this long.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration,
          num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    pub(super) bench: Option<Duration>,
}

impl CheckCommand {
    /// A flag that makes sense only for a store that is opened.
    pub(super) fn needs_a_configuration(&self) -> Option<&'static str> {
        [
            (self.full, "--full"),
            (!self.only.is_empty(), "--only"),
            (self.alone, "--alone"),
            (!self.secret.is_empty(), "--secret"),
            (self.unreachable.is_some(), "--unreachable"),
            (self.unresponsive.is_some(), "--unresponsive"),
            (self.wrong_credentials.is_some(), "--wrong-credentials"),
            (self.no_room.is_some(), "--no-room"),
            (self.bench.is_some(), "--bench"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NewCommand {
    /// The store's name, as a configuration will say it; the crate is warren-store-NAME.
    pub(super) name: String,
    /// The folder to make. Default: warren-store-NAME in the current folder.
    #[arg(long)]
    pub(super) dir: Option<PathBuf>,
    /// Where the crate takes Warren's contract from: a checkout of Warren, a version, or the URL
    /// of a git repository. Default: the checkout that this program was built from.
    #[arg(long, value_name = "PATH|VERSION|URL")]
    pub(super) api: Option<String>,
}
