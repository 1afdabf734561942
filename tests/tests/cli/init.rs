//! `warren config init`: a file to begin with.

use warren_tests::System;

#[test]
fn a_first_configuration_works_with_no_server() {
    let system = System::with_config("");
    std::fs::remove_file(system.path("warren.toml")).unwrap();
    system.run(&["config", "init"]).expect(0);
    let text = std::fs::read_to_string(system.path("warren.toml")).unwrap();
    assert!(text.contains("type = \"sqlite\""), "{text}");
    assert!(text.contains("# busy_timeout = "), "{text}");
    system.run(&["config", "check"]).expect(0);

    // What one process has stored, another one reads.
    system
        .run(&["demo", "--store", "sqlite", "--jobs", "2"])
        .expect(0);
    let job = system.job("demo-001").unwrap();
    assert_eq!(job["status"], "completed");
    assert_eq!(job["result"], 2);
}

#[test]
fn a_configuration_that_is_there_stays() {
    let system = System::with_config("[worker]\nconcurrency = 7\n");
    let refused = system.run(&["config", "init"]).expect(2);
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    let before = std::fs::read_to_string(system.path("warren.toml")).unwrap();
    assert!(before.contains("concurrency = 7"));
    system
        .run(&["config", "init", "--force", "--store", "memory"])
        .expect(0);
    let after = std::fs::read_to_string(system.path("warren.toml")).unwrap();
    assert!(after.contains("type = \"memory\""), "{after}");
    let unknown = system.run(&["config", "init", "--force", "--store", "memry"]);
    assert!(
        unknown
            .expect(2)
            .stderr
            .contains("did you mean \"memory\"?")
    );
}
