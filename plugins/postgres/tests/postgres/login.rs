//! Ways to reach a server, and to be refused by it.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use warren_plugin_api::{ErrorClass, ResultStore, Status};

use crate::{
    server::PrivateServer,
    support::{connect, open, record},
};

async fn works(config: Value) {
    let store = open(config).await.unwrap();
    store
        .put(record("a", Status::Completed).into())
        .await
        .unwrap();
    assert!(store.get("a".into()).await.unwrap().is_some());
}

/// The sentence of a refusal, which must not hold the password.
async fn refusal(config: Value) -> String {
    let opened = open(config.clone()).await;
    let Err(error) = opened else {
        panic!("it must be refused: {config}");
    };
    let text = error.to_string();
    assert_eq!(error.class(), ErrorClass::InvalidConfig, "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    text
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_does_not() {
    let server = PrivateServer::start(&[]);
    let plain = connect(&server.url()).await;
    plain
        .batch_execute(
            "CREATE ROLE scram LOGIN SUPERUSER PASSWORD 's3cret/@:?'; \
             SET password_encryption = 'md5'; CREATE ROLE old LOGIN SUPERUSER PASSWORD 's3cret'; \
             CREATE ROLE sleeper NOLOGIN",
        )
        .await
        .unwrap();
    server.allow(
        "host all scram 127.0.0.1/32 scram-sha-256\nhost all old 127.0.0.1/32 md5\n\
         host all sleeper 127.0.0.1/32 trust\nlocal all all trust",
    );
    server.reload();
    let at = |login: &str| {
        let url = format!("postgresql://{login}127.0.0.1:{}/postgres", server.port);
        json!({"postgres_url": url})
    };
    // A reload takes its time.
    crate::support::eventually("the rules hold", async || open(at("postgres@")).await.err()).await;
    works(at("scram:s3cret%2F%40%3A%3F@")).await;
    works(at("old:s3cret@")).await;
    for login in [
        "scram:s3cretly@",
        "old:s3cretly@",
        "scram@",
        "nobody:s3cret@",
        "sleeper@",
    ] {
        let text = refusal(at(login)).await;
        assert!(text.contains("check user, password and database"), "{text}");
    }
    let socket = format!(
        "postgresql://postgres@/postgres?host={}&port={}",
        server.folder().display(),
        server.port
    );
    works(json!({"postgres_url": socket})).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused() {
    let server = PrivateServer::start(&[]);
    let url = server.url_as("postgres:s3cret", "nothing");
    let text = refusal(json!({"postgres_url": url})).await;
    assert!(text.contains("3D000"), "{text}");
}

struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// An authority, a certificate for `127.0.0.1` and one for a client, and another authority.
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ours, others) = (authority("ours"), authority("others"));
        let write = |name: &str, pem: String| fs::write(folder.path().join(name), pem).unwrap();
        write("ca.pem", ours.pem());
        write("other-ca.pem", others.pem());
        for (name, host) in [
            ("server", "127.0.0.1"),
            ("other", "db.example"),
            ("client", "x"),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            params
                .distinguished_name
                .push(DnType::CommonName, "postgres");
            let certificate = params.signed_by(&key, &ours).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(Path::new(&self.path(name))).unwrap()
    }

    /// A server with one of the certificates, which only speaks TLS.
    fn server(&self, certificate: &str, rule: &str) -> PrivateServer {
        let server = PrivateServer::prepare(&[]);
        let cert = server.keep("server.crt", &self.read(&format!("{certificate}.pem")));
        let key = server.keep("server.key", &self.read(&format!("{certificate}.key")));
        let ca = server.keep("ca.crt", &self.read("ca.pem"));
        server.set(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'",
            cert.display(),
            key.display(),
            ca.display()
        ));
        server.allow(rule);
        server.start_again();
        server
    }
}

#[tokio::test]
async fn tls_is_checked_as_far_as_the_options_say() {
    let files = Certificates::make();
    let server = files.server("server", "hostssl all all 127.0.0.1/32 trust");
    let with = |sslmode: &str, options: Value| {
        let mut config = options;
        let url = format!("{}{sslmode}", server.url());
        config["postgres_url"] = url.into();
        config
    };
    works(with(
        "?sslmode=verify-full",
        json!({"tls_ca_file": files.path("ca.pem")}),
    ))
    .await;
    works(with(
        "?sslmode=require",
        json!({"tls_ca_file": files.path("ca.pem")}),
    ))
    .await;
    works(with("", json!({"tls_ca_file": files.path("ca.pem")}))).await;
    works(with("", json!({}))).await;
    works(with("?sslmode=prefer", json!({}))).await;

    for (sslmode, options) in [
        ("?sslmode=require", json!({})),
        ("", json!({"tls_ca_file": files.path("other-ca.pem")})),
    ] {
        let text = refusal(with(sslmode, options)).await;
        assert!(
            text.contains("check sslmode and the tls_ options"),
            "{text}"
        );
    }
    let text = refusal(with("?sslmode=disable", json!({}))).await;
    assert!(text.contains("28000"), "{text}");
    for option in ["tls_ca_file", "tls_cert_file"] {
        let options = json!({option: "/nonexistent.pem", "tls_key_file": "/nonexistent.pem"});
        let text = refusal(with("", options)).await;
        assert!(text.contains(option), "{text}");
    }

    let insecure = open(with("", json!({"tls_insecure": true}))).await.unwrap();
    let warnings = insecure.health_check().await.unwrap().warnings;
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("is not checked")),
        "{warnings:?}"
    );
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused() {
    let files = Certificates::make();
    let server = files.server("other", "hostssl all all 127.0.0.1/32 trust");
    let config = json!({"postgres_url": server.url(), "tls_ca_file": files.path("ca.pem")});
    let text = refusal(config).await;
    assert!(text.contains("TLS"), "{text}");
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate() {
    let files = Certificates::make();
    let server = files.server("server", "hostssl all all 127.0.0.1/32 cert");
    let mut config = json!({"postgres_url": server.url(), "tls_ca_file": files.path("ca.pem")});
    refusal(config.clone()).await;
    config["tls_cert_file"] = files.path("client.pem").into();
    let text = refusal(config.clone()).await;
    assert!(text.contains("belong together"), "{text}");
    config["tls_key_file"] = files.path("client.key").into();
    works(config).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    let server = PrivateServer::start(&[]);
    let url = format!("{}?sslmode=require", server.url());
    let text = refusal(json!({"postgres_url": url})).await;
    assert!(text.contains("does not support TLS"), "{text}");
}
