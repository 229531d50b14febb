//! Mutual TLS between relays.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Who a pod is, and whom it trusts.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    /// Reads the files.
    pub fn load(authority: &Path, certificate: &Path, key: &Path) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_file(certificate)?];
        let key = PrivateKeyDer::from_pem_file(key)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority)?)?;
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }

    /// As a server; fails where the other side has no certificate of the authority.
    pub async fn accept(&self, stream: TcpStream) -> Result<server::TlsStream<TcpStream>> {
        Ok(self.acceptor.accept(stream).await?)
    }

    /// As a client of the one who has this name.
    pub async fn connect(
        &self,
        stream: TcpStream,
        name: &str,
    ) -> Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned())?;
        Ok(self.connector.connect(name, stream).await?)
    }
}

/// The name of DNS in the certificate of the one who connected.
pub fn client_name(stream: &server::TlsStream<TcpStream>) -> Result<String> {
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    let certificate = webpki::EndEntityCert::try_from(chain.first().context("no certificate")?)?;
    let name = certificate.valid_dns_names().next().context("no name in it")?;
    Ok(name.to_owned())
}
