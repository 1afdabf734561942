//! Where credentials come from where the options have none. Each is tried in a process of its own,
//! whose environment is what it is about.

use std::{path::Path, process::Command};

use serde_json::json;
use warren_plugin_api::{HostContext, ResultStore, Status};
use warren_store_s3::S3Store;

use crate::{
    memory_s3::{Answer, BUCKET, MemoryS3},
    support::record,
};

/// Names the imitation to the errand.
const ENDPOINT: &str = "WARREN_TEST_ERRAND_ENDPOINT";

/// Opens a store in this environment, and writes; gives what was said.
fn run(service: &MemoryS3, environment: &[(&str, &str)]) -> String {
    let mut errand = Command::new(std::env::current_exe().unwrap());
    errand.args(["--ignored", "--exact", "credentials::errand", "--nocapture"]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        errand.env_remove(name);
    }
    errand.env(ENDPOINT, service.endpoint());
    errand.env("HOME", "/nonexistent");
    errand.envs(environment.iter().copied());
    let ran = errand.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    said
}

/// Who signed the requests of the bucket.
fn signed_by(service: &MemoryS3, environment: &[(&str, &str)]) -> String {
    service.listen();
    let said = run(service, environment);
    assert!(said.contains("written"), "{said}");
    let asked = service.asked();
    let of_the_bucket = asked
        .iter()
        .filter(|asked| asked.path.starts_with(&format!("/{BUCKET}/")));
    let mut signers: Vec<String> = of_the_bucket
        .map(|asked| {
            let signature = asked.header("authorization").unwrap();
            let (_, rest) = signature.split_once("Credential=").unwrap();
            rest.split('/').next().unwrap().to_owned()
        })
        .collect();
    signers.dedup();
    assert_eq!(signers.len(), 1, "{signers:?}");
    signers.remove(0)
}

#[tokio::test]
#[ignore = "run by the other tests of this file, in an environment of theirs"]
async fn errand() {
    let config = json!({
        "endpoint": std::env::var(ENDPOINT).unwrap(),
        "allow_http": true,
        "bucket": BUCKET,
        "prefix": "p",
    });
    let config = serde_json::from_value(config).unwrap();
    match S3Store::open(config, HostContext::silent()).await {
        Err(error) => println!("{error}"),
        Ok(store) => {
            store.put(record("a", Status::Queued).into()).await.unwrap();
            println!("written");
        }
    }
}

#[test]
fn where_there_are_none_that_is_said() {
    let service = MemoryS3::start();
    // As on a machine without metadata.
    let nowhere = "http://127.0.0.1:1";
    let said = run(&service, &[("AWS_METADATA_ENDPOINT", nowhere)]);
    assert!(said.contains("invalid_config"), "{said}");
    assert!(said.contains("no credentials"), "{said}");
}

fn shared_file(folder: &Path) -> String {
    let path = folder.join("credentials");
    let text = "[default]\naws_access_key_id = of-default\naws_secret_access_key = a\n\
                [jobs]\naws_access_key_id = of-jobs\naws_secret_access_key = b\n";
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn they_come_from_the_environment_or_a_shared_file() {
    let service = MemoryS3::start();
    let folder = tempfile::tempdir().unwrap();
    let file = shared_file(folder.path());
    let shared = ("AWS_SHARED_CREDENTIALS_FILE", file.as_str());
    let key = [
        ("AWS_ACCESS_KEY_ID", "of-environment"),
        ("AWS_SECRET_ACCESS_KEY", "c"),
    ];
    assert_eq!(signed_by(&service, &[shared]), "of-default");
    let profile = [shared, ("AWS_PROFILE", "jobs")];
    assert_eq!(signed_by(&service, &profile), "of-jobs");
    let both = [shared, ("AWS_PROFILE", "jobs"), key[0], key[1]];
    assert_eq!(signed_by(&service, &both), "of-environment");
}

fn given(id: &str) -> Answer {
    let mut answer = Answer::of(200);
    answer.body = json!({
        "AccessKeyId": id,
        "SecretAccessKey": "d",
        "Token": "temporary",
        "Expiration": "2999-01-01T00:00:00Z",
    })
    .to_string()
    .into_bytes();
    answer
}

#[test]
fn they_come_from_the_container() {
    let service = MemoryS3::start();
    service.answer_by(|asked| {
        (asked.path == "/v1/credentials").then(|| {
            assert_eq!(asked.header("authorization"), Some("of the pod"));
            given("of-container")
        })
    });
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "of the pod").unwrap();
    let uri = format!("{}/v1/credentials", service.endpoint());
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.to_str().unwrap(),
        ),
    ];
    assert_eq!(signed_by(&service, &environment), "of-container");
}

#[test]
fn they_come_from_the_machine_at_last() {
    let service = MemoryS3::start();
    service.answer_by(|asked| {
        let text = |text: &str| {
            let mut answer = Answer::of(200);
            answer.body = text.as_bytes().to_vec();
            Some(answer)
        };
        match asked.path.as_str() {
            "/latest/api/token" => text("of the machine"),
            "/latest/meta-data/iam/security-credentials/" => text("role"),
            "/latest/meta-data/iam/security-credentials/role" => Some(given("of-machine")),
            _ => None,
        }
    });
    let endpoint = service.endpoint();
    let environment = [("AWS_METADATA_ENDPOINT", endpoint.as_str())];
    assert_eq!(signed_by(&service, &environment), "of-machine");
}
