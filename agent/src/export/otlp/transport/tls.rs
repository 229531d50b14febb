//! Whom to trust behind `https://`: the system's authorities, or those of one PEM file.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Certificate, ClientTlsConfig};

use super::super::settings::Target;
use super::TransportError;

fn refuse(target: &Target, reason: String) -> TransportError {
    TransportError::Trust { endpoint: target.endpoint.clone(), reason }
}

/// The configured authorities, or the system's where none are.
fn authorities(target: &Target) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let found = match &target.certificate {
        Some(path) => {
            let unreadable = |error: &dyn std::error::Error| {
                refuse(target, format!("{}: {error}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
            CertificateDer::pem_slice_iter(&pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| unreadable(&error))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if found.is_empty() {
        let place = target.certificate.as_ref().map_or_else(
            || "the system has no CA certificates".to_owned(),
            |path| format!("{} holds no certificate", path.display()),
        );
        return Err(refuse(target, place));
    }
    Ok(found)
}

/// For tonic.
pub(super) fn grpc(target: &Target) -> Result<ClientTlsConfig, TransportError> {
    let roots = authorities(target)?;
    let Some(path) = &target.certificate else {
        return Ok(ClientTlsConfig::new().with_native_roots());
    };
    debug_assert!(!roots.is_empty());
    let pem = std::fs::read(path).map_err(|error| refuse(target, error.to_string()))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// For reqwest, which has no provider of cryptography of its own here and so needs a
/// configuration even where `secure` is false; that one trusts nobody.
pub(super) fn http(target: &Target, secure: bool) -> Result<ClientConfig, TransportError> {
    let mut roots = RootCertStore::empty();
    if secure {
        let (added, _) = roots.add_parsable_certificates(authorities(target)?);
        if added == 0 {
            return Err(refuse(target, "no certificate in it can be parsed".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(target, error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
