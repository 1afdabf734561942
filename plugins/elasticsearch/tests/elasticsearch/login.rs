//! How we log in: the headers that we send, and TLS by real handshakes.

use std::{fs, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use warren_plugin_api::{ErrorClass, ResultStore};

use crate::{
    stub::Stub,
    support::{class, none_found, open, store_with, with_index},
};

#[tokio::test]
async fn every_request_has_the_credentials_and_no_vendor_s_media_type() {
    for (config, expected) in [
        (json!({}), None),
        // RFC 7617
        (
            json!({"username": "elastic", "password": "changeme"}),
            Some("Basic ZWxhc3RpYzpjaGFuZ2VtZQ=="),
        ),
        // "Authorization: ApiKey {encoded}", as the create API key API gives it
        (
            json!({"api_key": "VnVhQ2ZHY0JDZGJrU=="}),
            Some("ApiKey VnVhQ2ZHY0JDZGJrU=="),
        ),
    ] {
        let (store, stub) = store_with(config, none_found).await;
        store.get("a".into()).await.unwrap();
        let requests = stub.requests();
        assert_eq!(requests.len(), 2);
        for request in requests {
            let authorization = request.headers.get("authorization").map(String::as_str);
            assert_eq!(authorization, expected);
            // OpenSearch answers application/vnd.elasticsearch+json with 406.
            assert_eq!(request.headers["accept"], "application/json");
            assert!(request.headers["user-agent"].starts_with("warren/"));
        }
    }
}

struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        let name = &mut authority.distinguished_name;
        name.push(DnType::CommonName, "an authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", authority.pem());
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = certificate.signed_by(&key, &authority).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn certificate(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file(name)).unwrap()
    }

    /// A stub with TLS, which asks for a client's certificate or does not.
    fn stub(&self, asks_for_client: bool) -> (Stub, String) {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_client {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate("ca.pem")).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.file("localhost.key")).unwrap();
        let tls = builder.with_single_cert(vec![self.certificate("localhost.pem")], key);
        let stub = Stub::start_tls(tls.unwrap(), with_index(none_found));
        let url = stub.url.replace("127.0.0.1", "localhost");
        (stub, url)
    }
}

async fn refused(config: Value) -> Option<ErrorClass> {
    match open(config).await {
        Ok(store) => class(&store.get("a".into()).await),
        Err(error) => Some(error.class()),
    }
}

#[tokio::test]
async fn tls_checks_the_server() {
    let certificates = Certificates::make();
    let (stub, url) = certificates.stub(false);
    let ca = certificates.file("ca.pem");
    let trusting = json!({"elasticsearch_urls": [url], "tls_ca_file": ca});
    assert_eq!(refused(trusting).await, None);
    // An authority that nobody knows, a name that is not in the certificate, no certificates.
    for config in [
        json!({"elasticsearch_urls": [url]}),
        json!({"elasticsearch_urls": [stub.url], "tls_ca_file": ca}),
        json!({"elasticsearch_urls": [url], "tls_ca_file": certificates.file("client.key")}),
        json!({"elasticsearch_urls": [url], "tls_ca_file": certificates.file("absent.pem")}),
    ] {
        let class = refused(config.clone()).await;
        assert_eq!(class, Some(ErrorClass::InvalidConfig), "{config}");
    }
}

#[tokio::test]
async fn tls_shows_the_client() {
    let certificates = Certificates::make();
    let (_stub, url) = certificates.stub(true);
    let mut config = json!({
        "elasticsearch_urls": [url],
        "tls_ca_file": certificates.file("ca.pem"),
        "tls_cert_file": certificates.file("client.pem"),
        "tls_key_file": certificates.file("client.key"),
    });
    assert_eq!(refused(config.clone()).await, None);
    config["tls_key_file"].take();
    assert_eq!(
        refused(config.clone()).await,
        Some(ErrorClass::InvalidConfig),
        "half of it"
    );
    config["tls_cert_file"].take();
    assert_eq!(
        refused(config).await,
        Some(ErrorClass::InvalidConfig),
        "none of it"
    );
}
