//! Help, completions, manual pages.

use std::fs;

use super::in_process;

/// Every command that does something.
const COMMANDS: [&str; 19] = [
    "worker",
    "enqueue",
    "job get",
    "job wait",
    "results ls",
    "results stats",
    "results purge",
    "queue info",
    "queue purge",
    "dlq ls",
    "dlq replay",
    "plugins ls",
    "plugins check",
    "plugins new",
    "config check",
    "config show",
    "demo",
    "completions",
    "man",
];

#[test]
fn every_command_has_help() {
    let system = in_process("");
    for command in COMMANDS {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = system.run(&arguments).expect(0).stdout;
        assert!(help.contains(&format!("Usage: warren {command}")), "{help}");
    }
    let help = system.run(&["--help"]).expect(0).stdout;
    for word in [
        "Exit codes:",
        "the job failed or was aborted",
        "WARREN_BROKER_URL",
    ] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn the_version_is_the_crate_s() {
    let ran = in_process("").run(&["--version"]).expect(0);
    assert_eq!(ran.line(), format!("warren {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_shell_gets_its_completions() {
    let system = in_process("");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = system.run(&["completions", shell]).expect(0).stdout;
        for word in ["enqueue", "--concurrency", "replay"] {
            assert!(
                script.contains(word.trim_start_matches('-')),
                "{shell} lacks {word}"
            );
        }
    }
    system.run(&["completions", "tcsh"]).expect(2);
}

#[test]
fn every_command_gets_a_manual_page() {
    let system = in_process("");
    fs::create_dir(system.path("pages")).unwrap();
    system.run(&["man", "pages"]).expect(0);
    for command in COMMANDS {
        let page = system.path(&format!("pages/warren-{}.1", command.replace(' ', "-")));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(text.contains(".SH NAME"), "{text}");
    }
    let ran = system.run(&["man", "no/such/folder"]).expect(1);
    assert!(ran.stderr.contains("no/such/folder"), "{}", ran.stderr);
}
