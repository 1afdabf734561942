//! Passwords never show, whatever goes wrong.

use super::in_process;
use warren_tests::{System, amqp_url, free_port};

const SECRET: &str = "s3cret-pa55word";

/// Checks that a run with this exit code shows no secret, at any level of the log.
#[track_caller]
fn no_secret_in(system: &System, code: i32, arguments: &[&str]) {
    let mut arguments = arguments.to_vec();
    arguments.extend(["--log-level", "trace"]);
    let ran = system.run(&arguments).expect(code);
    for shown in [&ran.stdout, &ran.stderr] {
        assert!(
            !shown.contains(SECRET),
            "{arguments:?} shows the secret: {shown}"
        );
    }
}

#[test]
fn a_broker_that_cannot_be_reached_is_named_without_its_password() {
    let system = in_process("");
    let url = format!("amqp://ann:{SECRET}@127.0.0.1:{}/%2f", free_port());
    let set = format!("broker.url={url}");
    for command in [
        &["queue", "info"][..],
        &["enqueue", "f"],
        &["worker"],
        &["dlq", "ls"],
    ] {
        let mut arguments = command.to_vec();
        arguments.extend(["--set", &set]);
        no_secret_in(&system, 3, &arguments);
        let ran = system.run(&arguments).expect(3);
        assert!(
            ran.stderr.contains("amqp://ann@127.0.0.1:"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("is RabbitMQ running"), "{}", ran.stderr);
    }
}

#[test]
fn a_refused_login_does_not_show_the_password() {
    let system = in_process("");
    let mut url = url::Url::parse(&amqp_url()).unwrap();
    url.set_username("nobody").unwrap();
    url.set_password(Some(SECRET)).unwrap();
    let set = format!("broker.url={url}");
    no_secret_in(&system, 3, &["queue", "info", "--set", &set]);
    let ran = system.run(&["queue", "info", "--set", &set]).expect(3);
    assert!(
        ran.stderr.contains("check user, password"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_address_that_is_wrong_is_refused_without_its_password() {
    let system = in_process("");
    for url in [
        format!("http://ann:{SECRET}@host/"),
        format!("amqp://ann:{SECRET}@host:port/%2f"),
        format!("amqp://ann:{SECRET}/@host/%2f"),
        format!("amqp://ann:{SECRET}@[::1/%2f"),
        format!("amqp://ann:{SECRET}@host/%2f?heartbeat=often"),
        SECRET.to_owned(),
    ] {
        let set = format!("broker.url={url}");
        no_secret_in(&system, 2, &["queue", "info", "--set", &set]);
        no_secret_in(&system, 2, &["config", "check", "--set", &set]);
    }
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let system = System::with_config(&format!(
        "[broker]\nurl = \"amqp://ann:{SECRET}@host/%2f\"\n\n\
         [result_store]\ntype = \"memory\"\n\n\
         [result_store.config]\n\
         url = \"redis://:{SECRET}@host/0\"\n\
         in_query = \"redis://host/0?password={SECRET}\"\n\
         password = \"{SECRET}\"\n\
         wrong = \"redis://ann:/{SECRET}@host/0\"\n\
         nodes = [\"redis://:{SECRET}@one/0\", \"redis://:{SECRET}@two/0\"]\n\n\
         [functions.f]\ncommand = [\"true\"]\n\n\
         [functions.f.env]\nAPI_TOKEN = \"{SECRET}\"\n"
    ));
    no_secret_in(&system, 0, &["config", "show"]);
    no_secret_in(&system, 0, &["config", "show", "--json"]);
    let shown = system.run(&["config", "show"]).expect(0).stdout;
    assert!(shown.contains("amqp://ann:***@host/%2f"), "{shown}");
    // A wrong value is an error, and an error shows no value.
    no_secret_in(&system, 2, &["config", "check"]);
}

#[test]
fn a_secret_that_is_kept_elsewhere_is_used_and_not_shown() {
    let system =
        in_process("[functions.f]\ncommand = [\"true\"]\nenv = { TOKEN = \"${env:KEPT}\" }\n");
    let ran = system
        .run_with(&[("KEPT", SECRET)], &["config", "show"])
        .expect(0);
    assert!(!ran.stdout.contains(SECRET), "{}", ran.stdout);
    let ran = system.run(&["config", "show"]).expect(2);
    assert!(ran.stderr.contains("KEPT"), "{}", ran.stderr);
}
