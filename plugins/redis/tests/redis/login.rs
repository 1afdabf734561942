//! Ways to reach a server, and to be refused by it.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use warren_plugin_api::{ErrorClass, ResultStore, Status, StoreResult};
use warren_store_redis::RedisStore;

use crate::{
    server::{PrivateServer, free_port},
    support::{class, open, record},
};

async fn works(config: Value) {
    let store = open(config).await.unwrap();
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    assert!(store.get("a".into()).await.unwrap().is_some());
}

/// The class and the sentence of a refusal, which must not hold the password.
async fn refusal(config: Value) -> (ErrorClass, String) {
    let opened: StoreResult<RedisStore> = open(config).await;
    let error = opened.err().expect("it must be refused");
    let text = error.to_string();
    assert!(!text.contains("s3cret"), "{text}");
    (error.class(), text)
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_does_not() {
    let server = PrivateServer::start(&["--requirepass", "s3cret"]).await;
    let at =
        |login: &str| json!({"redis_url": format!("redis://{login}127.0.0.1:{}/1", server.port)});
    works(at(":s3cret@")).await;
    works(at("default:s3cret@")).await;
    for login in ["", ":s3cretly@", "s3cret:x@"] {
        let (class, text) = refusal(at(login)).await;
        assert_eq!(class, ErrorClass::InvalidConfig, "{login}: {text}");
        assert!(text.contains("check user and password"), "{login}: {text}");
    }
    // The same over the older protocol.
    for login in ["", ":s3cretly@"] {
        let url = format!("redis://{login}127.0.0.1:{}/1?protocol=resp2", server.port);
        let (class, text) = refusal(json!({"redis_url": url})).await;
        assert_eq!(class, ErrorClass::InvalidConfig, "{login}: {text}");
    }
    let url = format!("redis://:s3cret@127.0.0.1:{}/0?protocol=resp2", server.port);
    works(json!({"redis_url": url})).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let server = PrivateServer::start(&[]).await;
    let url = format!("redis://127.0.0.1:{}/99", server.port);
    let (class, text) = refusal(json!({"redis_url": url})).await;
    assert_eq!(class, ErrorClass::InvalidConfig, "{text}");
    assert!(text.contains("database"), "{text}");
}

#[tokio::test]
async fn a_user_needs_no_more_than_the_readme_lists() {
    let readme = include_str!("../../README.md");
    let rule = readme
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER warren "))
        .expect("the README has the rule");
    let server = PrivateServer::start(&[]).await;
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let rule = rule.replace("PASSWORD", "s3cret");
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg("warren")
        .arg(rule.split(' ').collect::<Vec<_>>())
        .exec(&mut plain)
        .unwrap();
    let url = format!("redis://warren:s3cret@127.0.0.1:{}/0", server.port);
    let store = std::sync::Arc::new(open(json!({"redis_url": url})).await.unwrap());
    let (announced, _task) = crate::connecting::subscribe(&store).await;
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    assert_eq!(store.status("a".into()).await, Ok(Some(Status::Completed)));
    let page = store
        .scan(warren_plugin_api::Filter::default(), None, 10)
        .await
        .unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(store.stats().await.unwrap().records, Some(1));
    store
        .cleanup_expired(warren_plugin_api::Timestamp::now(), 10)
        .await
        .unwrap();
    assert_eq!(store.delete("a".into()).await, Ok(true));
    let health = store.health_check().await.unwrap();
    assert_eq!(health.warnings, Vec::<String>::new());
    crate::support::eventually("it is announced", async || {
        (!announced.lock().unwrap().is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_without_permissions_is_told_what_is_missing() {
    let server = PrivateServer::start(&[]).await;
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    for (user, rules) in [
        ("reader", vec!["on", ">s3cret", "~*", "+@read"]),
        (
            "mute",
            vec!["on", ">s3cret", "~*", "+@all", "resetchannels"],
        ),
    ] {
        redis::cmd("ACL")
            .arg("SETUSER")
            .arg(user)
            .arg(rules)
            .exec(&mut plain)
            .unwrap();
    }
    let at = |user: &str| json!({"redis_url": format!("redis://{user}:s3cret@127.0.0.1:{}", server.port)});
    let reader = open(at("reader")).await.unwrap();
    let refused = reader.put(record("a", Status::Queued).into()).await;
    assert_eq!(class(&refused), Some(ErrorClass::InvalidConfig));
    // Not being heard is no reason to lose a result.
    let mute = open(at("mute")).await.unwrap();
    mute.put(record("a", Status::Completed).into())
        .await
        .unwrap();
    let health = mute.health_check().await.unwrap();
    assert!(
        health
            .warnings
            .iter()
            .any(|warning| warning.contains("may not publish")),
        "{:?}",
        health.warnings
    );
    let sink = warren_plugin_api::CompletionSink::new(|| {}, |_| {});
    let refused = mute.subscribe(sink).await;
    assert_eq!(class(&refused), Some(ErrorClass::InvalidConfig));
}

#[tokio::test]
async fn a_unix_socket_and_its_database_are_reached() {
    let mut server = PrivateServer::prepare(&[]);
    let socket = server.socket().display().to_string();
    server = server.with(&[
        "--unixsocket",
        &socket,
        "--port",
        "0",
        "--requirepass",
        "s3cret",
    ]);
    server.start_again().await;
    works(json!({"redis_url": format!("unix://{socket}?db=3&pass=s3cret")})).await;
    works(json!({"redis_url": format!("redis+unix://{socket}?user=default&pass=s3cret")})).await;
    let (class, text) =
        refusal(json!({"redis_url": format!("unix://{socket}?pass=s3cretly")})).await;
    assert_eq!(class, ErrorClass::InvalidConfig, "{text}");
}

#[tokio::test]
async fn a_cluster_is_refused_with_the_reason() {
    let server = PrivateServer::start(&["--cluster-enabled", "yes"]).await;
    let (class, text) = refusal(json!({"redis_url": server.url()})).await;
    assert_eq!(class, ErrorClass::InvalidConfig, "{text}");
    assert!(text.contains("cluster-enabled no"), "{text}");
}

#[tokio::test]
async fn a_cluster_that_hides_is_refused_by_the_first_call() {
    let server = PrivateServer::start(&["--cluster-enabled", "yes"]).await;
    let mut plain = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    redis::cmd("ACL")
        .arg("SETUSER")
        .arg("quiet")
        .arg(&["on", ">s3cret", "~*", "&*", "+@all", "-info"])
        .exec(&mut plain)
        .unwrap();
    let url = format!("redis://quiet:s3cret@127.0.0.1:{}", server.port);
    let store = open(json!({"redis_url": url})).await.unwrap();
    let refused = store
        .put(record("a", Status::Queued).into())
        .await
        .unwrap_err();
    assert!(
        refused.message().contains("Cluster is not supported"),
        "{refused}"
    );
}

struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// An authority, with certificates of it for `localhost` and for a client.
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", authority.pem());
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().unwrap();
            let mut certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
            certificate
                .distinguished_name
                .push(DnType::CommonName, name);
            let certificate = certificate.signed_by(&key, &authority).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

async fn tls_server(certificates: &Certificates, asks_for_client: &str) -> (PrivateServer, u16) {
    let port = free_port();
    let server = PrivateServer::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificates.file("localhost.pem"),
        "--tls-key-file",
        &certificates.file("localhost.key"),
        "--tls-ca-cert-file",
        &certificates.file("ca.pem"),
        "--tls-auth-clients",
        asks_for_client,
    ])
    .await;
    (server, port)
}

#[tokio::test]
async fn tls_checks_the_server() {
    let certificates = Certificates::make();
    let (_server, port) = tls_server(&certificates, "no").await;
    let ca = certificates.file("ca.pem");
    let localhost = format!("rediss://localhost:{port}");
    works(json!({"redis_url": localhost, "tls_ca_file": ca})).await;
    // An authority that nobody knows, and a name that is not in the certificate.
    for config in [
        json!({"redis_url": localhost}),
        json!({"redis_url": format!("rediss://127.0.0.1:{port}"), "tls_ca_file": ca}),
        json!({"redis_url": localhost, "tls_ca_file": certificates.file("localhost.key")}),
    ] {
        let (class, text) = refusal(config.clone()).await;
        assert_eq!(class, ErrorClass::InvalidConfig, "{config}: {text}");
    }
    for config in [
        json!({"redis_url": localhost, "tls_insecure": true}),
        json!({"redis_url": format!("{localhost}#insecure")}),
    ] {
        let store = open(config.clone()).await.unwrap();
        let health = store.health_check().await.unwrap();
        assert!(
            health
                .warnings
                .iter()
                .any(|warning| warning.contains("not checked")),
            "{config}: {:?}",
            health.warnings
        );
    }
}

#[tokio::test]
async fn tls_shows_the_client() {
    let certificates = Certificates::make();
    let (_server, port) = tls_server(&certificates, "yes").await;
    let with_certificate = json!({
        "redis_url": format!("rediss://localhost:{port}"),
        "tls_ca_file": certificates.file("ca.pem"),
        "tls_cert_file": certificates.file("client.pem"),
        "tls_key_file": certificates.file("client.key"),
    });
    works(with_certificate.clone()).await;
    let store = std::sync::Arc::new(open(with_certificate).await.unwrap());
    let (_, task) = crate::connecting::subscribe(&store).await;
    task.abort();
    assert!(Path::new(&certificates.file("ca.pem")).exists());
    let (class, text) = refusal(json!({
        "redis_url": format!("rediss://localhost:{port}"),
        "tls_ca_file": certificates.file("ca.pem"),
    }))
    .await;
    assert_eq!(class, ErrorClass::InvalidConfig, "{text}");
}
