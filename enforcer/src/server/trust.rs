//! TLS as a client: whom the server trusts when it asks others over https.

use crate::approval::tls::provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;

/// Trusts the CAs of the file, and the system's where `system` says so.
///
/// # Errors
/// When the file cannot be read, or nobody is left to trust: what, for people.
pub(super) fn client(ca: Option<&Path>, system: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if system {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca {
        let fail = |what: String| format!("{}: {what}", path.display());
        let certs = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| fail(format!("{error:?}")))?;
        if certs.is_empty() {
            return Err(fail("no certificate".to_owned()));
        }
        for cert in certs {
            roots.add(cert).map_err(|error| fail(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Err("there is no CA to trust: set `ca_file`".to_owned());
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
