//! [`Authority`]: certificates by which workloads know each other, as a mesh hands them out.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::cluster::Pod;
use crate::process::write;

/// Signs certificates; its own is in the file [`Authority::certificate`].
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Files of one workload.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The workload's certificate.
    pub certificate: PathBuf,
    /// The key to it.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one that puts its files into `folder`.
    pub fn create(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key)?;
        let authority = Self { folder: folder.to_owned(), issuer: Issuer::new(parameters, key) };
        public(&authority.certificate(), &certificate.pem())?;
        Ok(authority)
    }

    /// The file with its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// A certificate for a pod's service account: without a subject, as Istio's, named by
    /// the SPIFFE identity, and by `names`, too, where a mesh goes by names of DNS.
    pub fn issue(&self, pod: &Pod, names: &[String]) -> Result<Credentials> {
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = DistinguishedName::new();
        parameters.subject_alt_names.push(SanType::URI(pod.principal().as_str().try_into()?));
        parameters.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let file = |kind: &str| self.folder.join(format!("{}.{kind}.pem", pod.uid));
        let credentials = Credentials {
            authority: self.certificate(),
            certificate: file("certificate"),
            key: file("key"),
        };
        public(&credentials.certificate, &certificate.pem())?;
        public(&credentials.key, &key.serialize_pem())?;
        Ok(credentials)
    }
}

/// A file that every user may read: proxies are not root, and nothing here is a secret.
pub(super) fn public(path: &Path, text: &str) -> Result<()> {
    write(path, text)?;
    Ok(std::fs::set_permissions(path, PermissionsExt::from_mode(0o644))?)
}
