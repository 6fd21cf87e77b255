//! Who has issued a certificate of ours. Not whether others trust it.

use std::path::Path;

use weir_auth::certificate::full_subject_text;
use weir_net::{
    ocsp::Certificate,
    tls::{Chains, UnixTime, X509},
};

/// The second certificate of the chain, else an authority of the block or of the system.
pub(super) fn find(
    ca_file: Option<&Path>,
    leaf: &Certificate,
    chain: &[X509<'_>],
) -> Result<Certificate, String> {
    let authorities = Chains::load(ca_file).map_err(|error| format!("failed to parse ca_file: {error}"))?;
    let nobody = || "no issuers found".to_owned();
    let read = |der: &[u8]| Certificate::parse(der).map_err(|error| format!("failed to parse cert: {error}"));
    let issuer = match chain {
        [own] => {
            let chains = authorities.of_server(own, &[], UnixTime::now());
            let der = chains.first().and_then(|chain| chain.get(1)).ok_or_else(nobody)?;
            read(der)?
        }
        [_, second, ..] => {
            let second = read(second)?;
            if leaf.is_signed_by(&second) { second } else { return Err(nobody()) }
        }
        [] => return Err(nobody()),
    };
    if !issuer.is_authority {
        let subject = full_subject_text(issuer.der());
        return Err(format!("{subject} invalid ca basic constraints: is not ca"));
    }
    Ok(issuer)
}
