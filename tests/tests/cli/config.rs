//! Where settings come from, and what is said of wrong ones.

use std::fs;

use super::{IN_PROCESS, in_process};
use warren_tests::System;

#[test]
fn a_usable_configuration_is_said_to_be_one() {
    let system = in_process("");
    let ran = system.run(&["config", "check"]).expect(0);
    assert_eq!(ran.line(), "the configuration can be used");
    let ran = system.run(&["config", "check", "--json"]).expect(0);
    assert_eq!(ran.json(), serde_json::json!({ "ok": true }));
}

#[test]
fn environment_goes_over_file_and_flags_over_both() {
    let system = in_process("[worker]\nconcurrency = 3\nname = \"file\"\nprefetch = 7\n");
    let ran = system.run_with(
        &[
            ("WARREN__WORKER__CONCURRENCY", "4"),
            ("WARREN_WORKER_NAME", "environment"),
        ],
        &["config", "show", "--json", "--set", "worker.concurrency=5"],
    );
    let shown = ran.expect(0).json();
    let worker = &shown["config"]["worker"];
    assert_eq!(worker["concurrency"], 5);
    assert_eq!(worker["name"], "environment");
    assert_eq!(worker["prefetch"], 7);
    let origins = &shown["origins"];
    assert_eq!(origins["worker.concurrency"], "--set");
    assert_eq!(origins["worker.name"], "$WARREN_WORKER_NAME");
    assert_eq!(origins["worker.prefetch"], "warren.toml");
}

#[test]
fn what_is_shown_as_toml_is_the_same_configuration() {
    let system = in_process(
        "[functions.echo]\ncommand = [\"cat\"]\ntimeout = \"7s\"\nretry = { limit = 1 }\n",
    );
    let shown = system.run(&["config", "show"]).expect(0).stdout;
    fs::write(system.path("copy.toml"), &shown).unwrap();
    let again = system
        .run(&["--config", "copy.toml", "config", "show"])
        .expect(0);
    let values = |text: &str| text.split("# Not defaults").next().unwrap().to_owned();
    assert_eq!(values(&again.stdout), values(&shown));
    assert!(shown.contains("timeout = \"7s\""), "{shown}");
}

#[test]
fn the_file_is_the_named_one_else_the_environment_s_else_the_folder_s() {
    let system = in_process("[worker]\nname = \"folder\"\n");
    for name in ["variable", "flag"] {
        let text = format!("{IN_PROCESS}\n[worker]\nname = {name:?}\n");
        fs::write(system.path(&format!("{name}.toml")), text).unwrap();
    }
    let variable = [("WARREN_CONFIG", "variable.toml")];
    let name = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut arguments = vec!["config", "show", "--json"];
        arguments.extend(flags);
        let shown = system.run_with(variables, &arguments).expect(0).json();
        shown["config"]["worker"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(name(&[], &[]), "folder");
    assert_eq!(name(&variable, &[]), "variable");
    assert_eq!(name(&variable, &["--config", "flag.toml"]), "flag");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_likely_key() {
    let system = System::with_config("[broker]\nurl = \"memory://\"\n\n[worker]\nconcurency = 5\n");
    let ran = system.run(&["config", "show"]).expect(2);
    assert!(ran.stderr.contains("warren.toml:5:1"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("did you mean `concurrency`?"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stdout, "");
}

#[test]
fn errors_are_json_too_when_json_is_asked_for() {
    let system = System::with_config("[worker]\nconcurency = 5\n");
    let ran = system.run(&["config", "show", "--json"]).expect(2);
    let error: serde_json::Value = serde_json::from_str(ran.stderr.trim()).unwrap();
    assert!(error["error"].as_str().unwrap().contains("warren.toml:2:1"));
    assert_eq!(error["hint"], "did you mean `concurrency`?");
}

#[test]
fn wrong_settings_are_refused_wherever_they_come_from() {
    let system = in_process("");
    let none: [(&str, &str); 0] = [];
    for (variables, flags, named) in [
        (
            &none[..],
            &["--set", "worker.concurency=1"][..],
            "--set (worker.concurency)",
        ),
        (
            &none[..],
            &["--set", "worker.concurrency=many"][..],
            "worker.concurrency",
        ),
        (&none[..], &["--set", "worker"][..], "expected KEY=VALUE"),
        (&none[..], &["--log-format", "xml"][..], "--log-format"),
        (&none[..], &["--log-level", "warren=loud"][..], "log.level"),
        (&none[..], &["--config", "absent.toml"][..], "absent.toml"),
        (
            &[("WARREN__WORKER__NAMES", "x")][..],
            &[][..],
            "$WARREN__WORKER__NAMES",
        ),
        (
            &[("WARREN__RESULT_STORE__TTL", "soon")][..],
            &[][..],
            "$WARREN__RESULT_STORE__TTL",
        ),
    ] {
        let mut arguments = vec!["config", "show"];
        arguments.extend(flags);
        let ran = system.run_with(variables, &arguments).expect(2);
        assert!(
            ran.stderr.contains(named),
            "{named:?} is not in {:?}",
            ran.stderr
        );
    }
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_place() {
    let system = System::with_config("[worker]\nqueues = [\"a\"\nname = 3\n");
    let ran = system.run(&["config", "check"]).expect(2);
    assert!(ran.stderr.contains("warren.toml:"), "{}", ran.stderr);
}

#[test]
fn a_function_without_a_program_is_found_before_any_job() {
    for (command, said) in [
        ("[]", "functions.f.command is empty"),
        ("[\"no-such-program\"]", "no program \"no-such-program\""),
    ] {
        let system = in_process(&format!("[functions.f]\ncommand = {command}\n"));
        for arguments in [&["config", "check"][..], &["worker", "--burst"][..]] {
            let ran = system.run(arguments).expect(2);
            assert!(ran.stderr.contains(said), "{}", ran.stderr);
        }
    }
}

#[test]
fn wrong_usage_is_told_with_the_usage() {
    let system = in_process("");
    for arguments in [
        &[][..],
        &["enqueue"][..],
        &["no-such-command"][..],
        &["job", "get"][..],
    ] {
        let ran = system.run(arguments).expect(2);
        assert!(ran.stderr.contains("Usage: warren"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}
