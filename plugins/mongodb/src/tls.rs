//! TLS: whom to trust, and who we are. The driver reads the files anew for each connection's
//! configuration and passes over what it cannot read, so they are looked into here first.

use std::path::Path;

use mongodb::options::{Tls, TlsOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use warren_plugin_api::{StoreError, StoreResult};

use crate::config::MongodbConfig;

/// What the URL says of TLS, with the store's own options over it.
pub(crate) fn options(config: &MongodbConfig, given: Option<Tls>) -> StoreResult<Option<Tls>> {
    let asked =
        config.tls_ca_file.is_some() || config.tls_cert_key_file.is_some() || config.tls_insecure;
    let mut options = match given {
        Some(Tls::Disabled) if asked => {
            return Err(StoreError::invalid_config(
                "mongodb_url has tls=false beside tls_ options, expected tls=true",
            ));
        }
        Some(Tls::Enabled(options)) => options,
        None if asked => TlsOptions::default(),
        other => return Ok(other),
    };
    if let Some(file) = &config.tls_ca_file {
        options.ca_file_path = Some(file.clone());
    }
    if let Some(file) = &config.tls_cert_key_file {
        options.cert_key_file_path = Some(file.clone());
    }
    if config.tls_insecure {
        options.allow_invalid_certificates = Some(true);
    }
    if let Some(file) = &options.ca_file_path {
        has_certificate("tls_ca_file", file)?;
    }
    if let Some(file) = &options.cert_key_file_path {
        has_certificate("tls_cert_key_file", file)?;
        PrivateKeyDer::from_pem_file(file)
            .map_err(|error| unreadable("tls_cert_key_file", file, &error))?;
    }
    Ok(Some(Tls::Enabled(options)))
}

fn has_certificate(option: &str, file: &Path) -> StoreResult<()> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates = read.map_err(|error| unreadable(option, file, &error))?;
    if certificates.is_empty() {
        return Err(StoreError::invalid_config(format!(
            "{option} {} holds no certificate, expected one in PEM form",
            file.display()
        )));
    }
    Ok(())
}

fn unreadable(option: &str, file: &Path, error: &rustls::pki_types::pem::Error) -> StoreError {
    StoreError::invalid_config(format!(
        "{option} {} cannot be read: {error}",
        file.display()
    ))
}
