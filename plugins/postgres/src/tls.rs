//! TLS: whom to trust, and who we are.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::PostgresConfig;

/// Reads the TLS files. With `verified` unset, any certificate of the server is taken.
pub(crate) fn connector(config: &PostgresConfig, verified: bool) -> StoreResult<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = if verified {
        builder.with_root_certificates(roots(config.tls_ca_file.as_deref())?)
    } else {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TakesAny(provider)))
    };
    let tls = match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(
                certificates("tls_cert_file", cert)?,
                private_key("tls_key_file", key)?,
            )
            .map_err(|error| unusable(&error))?,
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(StoreError::invalid_config(
                "tls_cert_file and tls_key_file belong together: set both or none",
            ));
        }
    };
    Ok(MakeRustlsConnect::new(tls))
}

fn roots(file: Option<&Path>) -> StoreResult<RootCertStore> {
    let Some(file) = file else {
        return Ok(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        });
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_ca_file", file)? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    Ok(roots)
}

fn certificates(option: &str, file: &Path) -> StoreResult<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates = read.map_err(|error| unreadable(option, file, &error))?;
    if certificates.is_empty() {
        return Err(StoreError::invalid_config(format!(
            "{option} {} holds no certificate, expected one in PEM form",
            file.display()
        )));
    }
    Ok(certificates)
}

fn private_key(option: &str, file: &Path) -> StoreResult<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| unreadable(option, file, &error))
}

fn unreadable(option: &str, file: &Path, error: &rustls::pki_types::pem::Error) -> StoreError {
    StoreError::invalid_config(format!(
        "{option} {} cannot be read: {error}",
        file.display()
    ))
}

fn unusable(error: &rustls::Error) -> StoreError {
    StoreError::invalid_config(format!("the TLS files cannot be used: {error}"))
}

/// Believes any certificate, though not any signature.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
