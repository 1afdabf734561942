//! TLS: whom to trust, and who we are.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::ElasticsearchConfig;

/// Reads the TLS files.
pub(crate) fn client_config(config: &ElasticsearchConfig) -> StoreResult<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots(config.tls_ca_file.as_deref())?);
    match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(
                certificates("tls_cert_file", cert)?,
                private_key("tls_key_file", key)?,
            )
            .map_err(|error| unusable(&error)),
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(StoreError::invalid_config(
            "tls_cert_file and tls_key_file belong together: set both or none",
        )),
    }
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
