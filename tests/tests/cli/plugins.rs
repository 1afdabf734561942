//! Plugins as the command line shows them.

use std::fs;

use super::{IN_PROCESS, in_process};
use warren_tests::{System, fixtures::fixtures, plugin, plugin_folder};

/// A folder with the memory store, and a file that is no plugin.
fn with_a_broken_plugin() -> System {
    let system = in_process("");
    fs::create_dir(system.path("stores")).unwrap();
    fs::copy(plugin("memory"), system.path("stores/memory.so")).unwrap();
    fs::write(system.path("stores/broken.so"), "#!/bin/sh\n").unwrap();
    system
}

#[test]
fn loaded_and_refused_plugins_are_listed() {
    let system = with_a_broken_plugin();
    let ran = system
        .run(&["plugins", "ls", "--plugin-dir", "stores", "--json"])
        .expect(0);
    let files = ran.json_lines();
    assert_eq!(files.len(), 2);
    let [broken, memory] = &files[..] else {
        panic!("{files:?}")
    };
    assert_eq!(broken["file"], "stores/broken.so");
    assert_eq!(broken["loaded"], false);
    let reason = broken["reason"].as_str().unwrap();
    assert!(
        reason.contains("broken.so") && reason.contains("#!/bin/sh"),
        "{reason}"
    );
    assert_eq!(memory["loaded"], true);
    assert_eq!(memory["name"], "memory");
    assert_eq!(memory["contract"], "1.1");
    assert_eq!(memory["capabilities"]["push"], true);

    let ran = system
        .run(&["plugins", "ls", "--plugin-dir", "stores"])
        .expect(0);
    let lines: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines[1][0], "memory");
    assert_eq!(lines[1][4], "loaded");
    assert!(lines[0][4].starts_with("not a shared library"), "{lines:?}");
    assert_eq!(lines[0][5], "stores/broken.so");
}

#[test]
fn a_refused_plugin_is_warned_of_and_stops_nothing() {
    let system = with_a_broken_plugin();
    let ran = system
        .run(&["config", "check", "--plugin-dir", "stores"])
        .expect(0);
    assert!(ran.stderr.contains("WARN"), "{}", ran.stderr);
    assert!(ran.stderr.contains("broken.so"), "{}", ran.stderr);
}

#[test]
fn plugin_folders_come_from_flag_else_environment_else_file() {
    let system = System::with_config(&format!("{IN_PROCESS}\n[plugins]\ndirs = [\"file\"]\n"));
    for (folder, library) in [
        ("file", plugin("memory")),
        ("environment", fixtures().store.clone()),
        ("flag", fixtures().store_1_0.clone()),
    ] {
        fs::create_dir(system.path(folder)).unwrap();
        fs::copy(library, system.path(folder).join("store.so")).unwrap();
    }
    let variable = [("WARREN_PLUGIN_PATH", "environment")];
    let name = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut arguments = vec!["plugins", "ls", "--json"];
        arguments.extend(flags);
        let listed = system.run_with(variables, &arguments).expect(0).json();
        listed["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(&[], &[]), "memory");
    assert_eq!(name(&variable, &[]), "fixture");
    assert_eq!(name(&variable, &["--plugin-dir", "flag"]), "old");
}

#[test]
fn a_folder_that_is_not_there_is_warned_of() {
    let ran = in_process("")
        .run(&["plugins", "ls", "--plugin-dir", "nowhere"])
        .expect(0);
    assert!(
        ran.stderr.contains("plugin folder nowhere"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("no plugins in nowhere"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_unknown_store_type_lists_what_there_is_and_where_it_looked() {
    let system = in_process("");
    let folder = plugin_folder().to_str().unwrap();
    let ran = system
        .run(&["job", "get", "x", "--set", "result_store.type=memroy"])
        .expect(2);
    for said in [
        "unknown result store type \"memroy\"",
        "did you mean \"memory\"?",
        folder,
        "`warren plugins ls`",
    ] {
        assert!(
            ran.stderr.contains(said),
            "{said:?} is not in {:?}",
            ran.stderr
        );
    }
    let listed = ran.stderr.split("registered: ").nth(1).unwrap_or_default();
    let listed = listed.split(';').next().unwrap_or_default();
    let names: Vec<&str> = listed.split(", ").collect();
    for name in ["memory", "redis", "sqlite"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    assert!(names.is_sorted(), "{names:?}");
}

#[test]
fn a_wrong_option_of_a_store_leads_to_its_options_and_not_to_the_plugins() {
    let system = in_process("");
    let ran = system
        .run(&[
            "job",
            "get",
            "x",
            "--set",
            "result_store.config.max_recrods=1",
        ])
        .expect(2);
    let hint = "`warren config init --store memory --config example.toml`";
    assert!(ran.stderr.contains(hint), "{ran:?}");
    assert!(!ran.stderr.contains("plugins ls"), "{ran:?}");
}

#[test]
fn a_store_type_whose_plugin_was_refused_is_explained_by_the_refusal() {
    let system = in_process("[plugins]\ndirs = [\"stores\"]\n");
    fs::create_dir(system.path("stores")).unwrap();
    fs::copy(&fixtures().changed_layout, system.path("stores/old.so")).unwrap();
    let ran = system
        .run(&["job", "get", "x", "--set", "result_store.type=old"])
        .expect(4);
    let error = ran
        .stderr
        .lines()
        .find(|line| line.starts_with("error:"))
        .unwrap();
    assert!(
        error.contains("old.so") && error.contains("its types differ"),
        "{error}"
    );
}

#[test]
fn a_wrong_key_of_a_store_is_named_with_the_likely_key() {
    let system = in_process("[result_store.config]\nmax_recrods = 5\n");
    let ran = system.run(&["config", "check"]).expect(2);
    assert!(ran.stderr.contains("max_recrods"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("did you mean \"max_records\"?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_plugin_file_is_checked_by_itself() {
    let system = with_a_broken_plugin();
    let ran = system
        .run(&["plugins", "check", "stores/memory.so"])
        .expect(0);
    assert!(ran.stdout.contains("store \"memory\""), "{}", ran.stdout);
    let ran = system.run(&[
        "plugins",
        "check",
        "stores/memory.so",
        "--store-config",
        "{}",
        "--json",
    ]);
    let report = ran.expect(0).json();
    assert_eq!(report["name"], "memory");
    assert!(report["health"]["detail"].is_string(), "{report}");

    let ran = system
        .run(&["plugins", "check", "stores/broken.so"])
        .expect(4);
    assert!(ran.stderr.contains("broken.so"), "{}", ran.stderr);
    system
        .run(&["plugins", "check", "stores/absent.so"])
        .expect(4);
    system
        .run(&[
            "plugins",
            "check",
            "stores/memory.so",
            "--store-config",
            "{",
        ])
        .expect(2);
    system
        .run(&[
            "plugins",
            "check",
            "stores/memory.so",
            "--store-config",
            "{\"a\": 1}",
        ])
        .expect(2);
}

#[test]
fn a_store_that_does_not_open_or_is_not_well_is_told() {
    let system = in_process("");
    let file = fixtures().store.to_str().unwrap();
    for (fault, said) in [
        ("constructor_error", "told to fail"),
        ("constructor_panics", "told to panic"),
    ] {
        let config = format!("{{\"fault\": {fault:?}}}");
        let ran = system
            .run(&["plugins", "check", file, "--store-config", &config])
            .expect(4);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
