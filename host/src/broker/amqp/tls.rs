//! What a connection is encrypted with: read anew each time, so that renewed certificates count.

use std::path::Path;

use lapin::{
    tcp::{OwnedIdentity, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri},
};

use crate::broker::{BrokerError, BrokerTls};

/// What a file holds, and what it is known by.
type Content = (&'static str, &'static str);
const A_CERTIFICATE: Content = ("certificate", "-----BEGIN CERTIFICATE-----");
const A_KEY: Content = ("private key", "PRIVATE KEY-----");

/// The files of `tls`, for a connection to `uri`.
///
/// # Errors
/// [`BrokerError::InvalidTls`]: a file cannot be read or holds something else, one of two is
/// missing, or the address is not encrypted.
pub(super) async fn config(uri: &AMQPUri, tls: &BrokerTls) -> Result<OwnedTLSConfig, BrokerError> {
    if uri.scheme == AMQPScheme::AMQP && *tls != BrokerTls::default() {
        return Err(invalid(
            "broker.tls_… is set and broker.url begins with amqp://, which is not encrypted: \
             expected amqps://"
                .to_owned(),
        ));
    }
    let cert_chain = match &tls.ca_file {
        Some(file) => Some(read("tls_ca_file", file, A_CERTIFICATE).await?),
        None => None,
    };
    let identity = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read("tls_cert_file", cert, A_CERTIFICATE).await?.into(),
            key: read("tls_key_file", key, A_KEY).await?.into(),
        }),
        (None, None) => None,
        (Some(_), None) => return Err(missing("tls_cert_file", "tls_key_file")),
        (None, Some(_)) => return Err(missing("tls_key_file", "tls_cert_file")),
    };
    Ok(OwnedTLSConfig {
        identity,
        cert_chain,
    })
}

async fn read(option: &str, file: &Path, (content, mark): Content) -> Result<String, BrokerError> {
    let text = tokio::fs::read_to_string(file)
        .await
        .map_err(|error| invalid(format!("broker.{option}: {}: {error}", file.display())))?;
    if !text.contains(mark) {
        return Err(invalid(format!(
            "broker.{option}: {} holds no {content}: expected PEM",
            file.display()
        )));
    }
    Ok(text)
}

fn missing(given: &str, other: &str) -> BrokerError {
    invalid(format!("broker.{given} is set and broker.{other} is not"))
}

const fn invalid(reason: String) -> BrokerError {
    BrokerError::InvalidTls { reason }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use tokio_rustls::rustls::{
        RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier,
    };

    use super::{
        super::{
            connection::Connection,
            runtime::tests::{broker_behind, broker_with_tls},
        },
        *,
    };
    use crate::broker::{BrokerSettings, BrokerUrl};

    fn settings(uri: AMQPUri, tls: BrokerTls) -> BrokerSettings {
        let mut settings = BrokerSettings::new(BrokerUrl::Amqp(Box::new(uri)));
        settings.tls = tls;
        settings
    }

    async fn error(uri: AMQPUri, tls: BrokerTls) -> String {
        let opened = Connection::open(settings(uri, tls)).await;
        opened.expect_err("it is wrong").to_string()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let (uri, certificate) = broker_with_tls().await;
        fs::write(&ca_file, certificate).unwrap();
        let refused = error(uri.clone(), BrokerTls::default()).await;
        assert!(refused.contains("tls_ca_file"), "{refused}");
        let tls = BrokerTls {
            ca_file: Some(ca_file),
            ..BrokerTls::default()
        };
        let connection = Connection::open(settings(uri, tls)).await.unwrap();
        assert!(connection.is_connected());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_asks_for_a_certificate_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            Some(path)
        };
        let own = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (server, client) = (own("localhost"), own("client"));
        let mut clients = RootCertStore::empty();
        clients.add(client.cert.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![server.cert.der().clone()],
                server.signing_key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let uri = broker_behind(config).await;
        let mut tls = BrokerTls {
            ca_file: file("ca.pem", server.cert.pem()),
            ..BrokerTls::default()
        };
        let refused = Connection::open(settings(uri.clone(), tls.clone())).await;
        assert!(refused.is_err());
        tls.cert_file = file("cert.pem", client.cert.pem());
        tls.key_file = file("key.pem", client.signing_key.serialize_pem());
        let connection = Connection::open(settings(uri, tls)).await.unwrap();
        assert!(connection.is_connected());
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_before_anything_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        let absent = folder.path().join("absent.pem");
        let none = BrokerTls::default;
        let amqps: AMQPUri = "amqps://localhost:1/%2f".parse().unwrap();
        let amqp: AMQPUri = "amqp://localhost:1/%2f".parse().unwrap();
        let of_ca = |file: &Path| BrokerTls {
            ca_file: Some(file.to_owned()),
            ..none()
        };
        let without_key = BrokerTls {
            cert_file: Some(empty.clone()),
            ..none()
        };
        for (uri, tls, said) in [
            (&amqp, of_ca(&empty), "expected amqps://"),
            (&amqps, of_ca(&empty), "empty.pem holds no certificate"),
            (&amqps, of_ca(&absent), "absent.pem: No such file"),
            (&amqps, without_key, "broker.tls_key_file is not"),
        ] {
            let error = error(uri.clone(), tls).await;
            assert!(error.contains(said), "{error}");
        }
    }
}
