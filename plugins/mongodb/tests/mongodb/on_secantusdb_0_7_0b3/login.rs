//! Ways to reach a server, and to be refused by it.

use std::fs;

use mongodb::{Client, bson::doc};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use warren_plugin_api::{ErrorClass, ResultStore, Status, StoreError, WriteOutcome};

use crate::{
    secantus::Secantus,
    support::{open, record},
};

async fn works(config: Value) {
    let store = open(config).await.unwrap();
    let written = store.put(record("a", Status::Completed).into()).await;
    assert_eq!(written, Ok(WriteOutcome::Written));
    assert_eq!(store.delete("a".into()).await, Ok(true));
}

/// The error of opening, which must not hold the password.
async fn refusal(config: Value) -> StoreError {
    let Err(error) = open(config.clone()).await else {
        panic!("it must be refused: {config}");
    };
    assert!(!error.to_string().contains("s3cret"), "{error}");
    error
}

#[tokio::test]
async fn a_password_opens_and_a_wrong_one_does_not() {
    let mut server = Secantus::start(&["--sync-on-commit"]);
    let plain = Client::with_uri_str(server.url()).await.unwrap();
    plain
        .database("admin")
        .run_command(doc! {
            "createUser": "warren", "pwd": "s3cret/@:?",
            "roles": [{ "role": "readWrite", "db": "warren" }],
        })
        .await
        .unwrap();
    server.kill();
    server.start_again(&["--auth"]);
    let at = |login: &str| {
        let url = format!(
            "mongodb://{login}{}/?directConnection=true",
            server.address()
        );
        json!({"mongodb_url": url})
    };
    works(at("warren:s3cret%2F%40%3A%3F@")).await;
    for login in ["warren:s3cretly@", "nobody:s3cret@", ""] {
        let error = refusal(at(login)).await;
        assert_eq!(error.class(), ErrorClass::InvalidConfig, "{login} {error}");
    }
    let error = refusal(at("warren:s3cretly@")).await;
    assert!(
        error
            .message()
            .contains("check user, password and authSource"),
        "{error}"
    );
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
        write("empty.pem", String::new());
        for (name, host) in [
            ("server", "127.0.0.1"),
            ("other", "db.example"),
            ("client", "x"),
        ] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &ours).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
            write(
                &format!("{name}-both.pem"),
                certificate.pem() + &key.serialize_pem(),
            );
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn server(&self, name: &str, more: &[&str]) -> Secantus {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let (certificate, key) = (self.path(&certificate), self.path(&key));
        let mut options = vec!["--tls-cert-file", &certificate, "--tls-key-file", &key];
        options.extend(more);
        Secantus::start(&options)
    }
}

fn with(server: &Secantus, options: Value) -> Value {
    let mut config = options;
    config["mongodb_url"] = server.url().into();
    config["connect_timeout"] = "2s".into();
    config
}

#[tokio::test]
async fn tls_checks_who_answers() {
    let certificates = Certificates::make();
    let server = certificates.server("server", &[]);
    let (ca, other_ca) = (
        certificates.path("ca.pem"),
        certificates.path("other-ca.pem"),
    );
    works(with(&server, json!({"tls_ca_file": ca}))).await;
    let insecure = with(&server, json!({"tls_insecure": true}));
    works(insecure.clone()).await;
    let health = open(insecure).await.unwrap().health_check().await.unwrap();
    assert!(
        health.warnings[0].contains("certificate is not checked"),
        "{health:?}"
    );

    let error = refusal(with(&server, json!({"tls_ca_file": other_ca}))).await;
    assert_eq!(error.class(), ErrorClass::InvalidConfig, "{error}");
    assert!(
        error.message().contains("check tls in mongodb_url"),
        "{error}"
    );
    let mut in_url = with(&server, json!({}));
    in_url["mongodb_url"] = format!("{}&tls=true&tlsCAFile={ca}", server.url()).into();
    works(in_url).await;
    // A plain client hears nothing that it understands.
    let error = refusal(with(&server, json!({}))).await;
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");

    let other = certificates.server("other", &[]);
    let error = refusal(with(&other, json!({"tls_ca_file": ca}))).await;
    assert_eq!(
        error.class(),
        ErrorClass::InvalidConfig,
        "another host's name: {error}"
    );
}

#[tokio::test]
async fn tls_shows_who_we_are() {
    let certificates = Certificates::make();
    let ca = certificates.path("ca.pem");
    let server = certificates.server(
        "server",
        &["--tls-ca-file", &ca, "--tls-require-client-cert"],
    );
    let both = certificates.path("client-both.pem");
    works(with(
        &server,
        json!({"tls_ca_file": ca, "tls_cert_key_file": both}),
    ))
    .await;
    let error = refusal(with(&server, json!({"tls_ca_file": ca}))).await;
    assert!(
        [ErrorClass::InvalidConfig, ErrorClass::Unavailable].contains(&error.class()),
        "{error}"
    );
}

#[tokio::test]
async fn tls_files_that_cannot_be_used_are_named() {
    let certificates = Certificates::make();
    for (option, file, named) in [
        ("tls_ca_file", "nothing.pem", "cannot be read"),
        ("tls_ca_file", "empty.pem", "holds no certificate"),
        ("tls_ca_file", "client.key", "holds no certificate"),
        ("tls_cert_key_file", "client.pem", "cannot be read"),
        ("tls_cert_key_file", "client.key", "holds no certificate"),
    ] {
        let path = certificates.path(file);
        let error = refusal(json!({"mongodb_url": "mongodb://h", option: path})).await;
        assert_eq!(error.class(), ErrorClass::InvalidConfig, "{error}");
        assert!(error.message().contains(option), "{error}");
        assert!(error.message().contains(file), "{error}");
        assert!(error.message().contains(named), "{error}");
    }
    let path = certificates.path("ca.pem");
    let url = "mongodb://h/?tls=false";
    let error = refusal(json!({"mongodb_url": url, "tls_ca_file": path})).await;
    assert!(
        error.message().contains("tls=false beside tls_ options"),
        "{error}"
    );
}

#[tokio::test]
async fn hostile_configurations_are_refused_before_a_server_is_asked() {
    for config in [
        json!({"mongodb_url": "mongodb://u:s3cret@h/x?readPreference=nearest"}),
        json!({"mongodb_url": "mongodb://u:s3cret@h/x?w=0"}),
        json!({"mongodb_url": "mongodb://u:s3cret@h/x?authMechanism=PLAINTEXT"}),
        json!({"mongodb_url": "mongodb://u:s3cret@h/a b"}),
        json!({"mongodb_url": "mongodb://u:s3cret@h,:0,h/x"}),
        json!({"mongodb_url": "mongodb://u:s3cret@h/x?compressors=zstd&directConnection=maybe"}),
        json!({"mongodb_url": "mongodb+srv://u:s3cret@a,b/x"}),
        json!({"mongodb_url": "mongodb+srv://u:s3cret@a.example:27017/x"}),
        json!({"database": "a/../b"}),
        json!({"collection_prefix": "$cmd"}),
    ] {
        let error = refusal(config.clone()).await;
        assert_eq!(error.class(), ErrorClass::InvalidConfig, "{config} {error}");
    }
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_unavailable() {
    for url in [
        "mongodb://nothing.invalid",
        "mongodb+srv://u:s3cret@db.nothing.invalid/x",
    ] {
        let error = refusal(json!({"mongodb_url": url, "connect_timeout": "1s"})).await;
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    }
}
